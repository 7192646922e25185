"""From a command line to the points of a grid.

The overrides are split as Hydra's basic sweeper splits them; a grid of the configuration adds its
axes. A group that is swept is composed anew; a value only replaces a value, so that a grid of
eighty-four points is composed once.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, field
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import Any, cast

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, Quote, QuotedString
from omegaconf import DictConfig, OmegaConf, open_dict

from unlearn_runner.config.groups import CONF, groups
from unlearn_runner.errors import ConfigError


@dataclass(frozen=True)
class Composed:
    """A plain, resolved configuration, and what it was composed from."""

    config: dict[str, Any]
    overrides: list[str]
    choices: Mapping[str, str | None]


Pair = tuple[DictConfig, DictConfig]
"""A configuration without Hydra's own node, and one with it."""


@dataclass
class Grid:
    """The axes of a sweep, and how to compose its points.

    Args:
        overrides: The command line without its flags.
        folders: Of a user's own options.
    """

    overrides: Sequence[str]
    folders: Sequence[str] = ()
    _bases: dict[tuple[str, ...], Pair] = field(default_factory=dict)
    _seen: DictConfig | None = None

    @contextmanager
    def opened(self) -> Iterator[Grid]:
        """Sets Hydra up while points are composed."""
        GlobalHydra.instance().clear()
        with initialize_config_dir(str(CONF), version_base="1.3"):
            yield self

    @cached_property
    def _parsed(self) -> list[Override]:
        loader = GlobalHydra.instance().config_loader()
        return OverridesParser.create(config_loader=loader).parse_overrides(list(self.overrides))

    @cached_property
    def typed(self) -> dict[str, list[str]]:
        """Axes of the command line: by key, the override of each value."""
        found = {}
        for override in self._parsed:
            if override.is_sweep_override():
                key = override.get_key_element()
                if not override.is_discrete_sweep():
                    raise ConfigError(
                        f"{override.input_line} is a range without steps", f"{key}=1,2,3"
                    )
                found[key] = [f"{key}={value}" for value in override.sweep_string_iterator()]
        return found

    @property
    def given(self) -> set[str]:
        """Keys and groups that the command line sets."""
        return {override.key_or_group for override in self._parsed}

    @property
    def fixed(self) -> list[str]:
        """The overrides that all points share."""
        found = (o for o in self._parsed if not o.is_sweep_override())
        return [o.input_line or "" for o in found]

    @cached_property
    def first(self) -> Composed:
        """The configuration at the first value of every axis of the command line."""
        return self.compose([values[0] for values in self.typed.values()])

    @cached_property
    def axes(self) -> dict[str, list[str]]:
        """All axes: those of the configuration's grid, unless typed or fixed, then the typed."""
        grid: Any = self.first.config.get("sweep", {}).get("grid") or {}
        given = self.given
        own = {
            str(key): [f"{key}={text(value)}" for value in values]
            for key, values in grid.items()
            if str(key) not in given
        }
        return own | self.typed

    def points(self) -> list[list[str]]:
        """Returns the overrides of every point, one of each axis."""
        return [list(point) for point in product(*self.axes.values())]

    def compose(self, point: Sequence[str]) -> Composed:
        """Returns the configuration of a point.

        Raises:
            HydraException: If it cannot be composed; OmegaConf's errors likewise.
        """
        overrides = [*self.fixed, *point]
        config, around = self._quick(point) or self._whole(overrides)
        choices = dict(around.hydra.runtime.choices)
        if around is not self._seen:
            HydraConfig.instance().set_config(around)  # what ${hydra:...} looks at
            self._seen = around
        plain = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
        return Composed(cast(dict[str, Any], plain), overrides, choices)

    def _whole(self, overrides: Sequence[str]) -> Pair:
        added = [f"hydra.searchpath=[{','.join(self.folders)}]"] if self.folders else []
        whole = compose("config", overrides=[*overrides, *added], return_hydra_config=True)
        OmegaConf.set_readonly(whole, False)
        around = whole.copy()
        with open_dict(whole):
            del whole["hydra"]  # larger than all the rest, and copied for every point
        return whole, around

    def _quick(self, point: Sequence[str]) -> Pair | None:
        """Returns a point as another one with other values, where that is the same."""
        values = [override for override in point if self._is_value(override)]
        rest = tuple(override for override in point if override not in values)
        if rest not in self._bases:
            self._bases[rest] = self._whole([*self.fixed, *rest])
        base, around = self._bases[rest]
        config = deepcopy(base)
        parser = OverridesParser.create()
        for override in parser.parse_overrides(values):
            if OmegaConf.select(config, override.key_or_group) is None and not self._there(
                config, override.key_or_group
            ):
                return None  # Hydra says what is wrong
            OmegaConf.update(config, override.key_or_group, override.value(), merge=True)
        return config, around

    def _is_value(self, override: str) -> bool:
        key = override.partition("=")[0]
        if key[0] in "+~" or "/" in key or "@" in key or key in self._groups:
            return False
        shared = [o.key_or_group for o in self._parsed if not o.is_sweep_override()]
        related = any(f"{key}.".startswith(f"{o}.") or o.startswith(f"{key}.") for o in shared)
        return key.partition(".")[0] != "hydra" and not related

    @cached_property
    def _groups(self) -> set[str]:
        return set(groups(CONF, *map(Path, self.folders)))

    @staticmethod
    def _there(config: DictConfig, key: str) -> bool:
        parent, _, last = key.rpartition(".")
        node = OmegaConf.select(config, parent)
        return isinstance(node, DictConfig) and last in node


def text(value: Any) -> str:
    """Returns a value of a YAML file as the command line writes it."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (int, float)):
        return str(value)
    if isinstance(value, list):
        return f"[{','.join(map(text, value))}]"
    if isinstance(value, dict):
        return "{" + ",".join(f"{key}:{text(item)}" for key, item in value.items()) + "}"
    words = str(value)
    if all(letter.isalnum() or letter in "_-./" for letter in words) and words:
        return words
    return QuotedString(words, Quote.single).with_quotes()
