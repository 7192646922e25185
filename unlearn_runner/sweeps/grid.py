"""Grid of a sweep: from a command line to the configuration of each of its jobs.

The overrides are split as Hydra's basic sweeper splits them; a grid of the configuration adds its
axes. A group that is swept is composed anew; a value only replaces a value, so that a grid of
eighty-four jobs is composed once.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, field
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import Any

from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from omegaconf import OmegaConf

from unlearn_runner.config.command_line import MAX_JOBS, is_value
from unlearn_runner.config.compose import Composed, Pair, compose_nodes, hydra_open, resolve
from unlearn_runner.config.groups import CONF, groups
from unlearn_runner.errors import ConfigError, as_value, shortened
from unlearn_runner.utils.files import leaves


@dataclass
class Grid:
    """The axes of a sweep, and how to compose its jobs."""

    overrides: Sequence[str]
    """The command line without its flags."""
    folders: Sequence[Path] = ()
    """Of a user's own options."""
    _bases: dict[tuple[str, ...], Pair] = field(default_factory=dict)

    @contextmanager
    def opened(self) -> Iterator[Grid]:
        """Sets Hydra up while jobs are composed."""
        with hydra_open():
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
        """The overrides that all jobs share."""
        found = (o for o in self._parsed if not o.is_sweep_override())
        return [o.input_line or "" for o in found]

    @cached_property
    def first(self) -> Composed:
        """The configuration at the first value of every axis of the command line."""
        return self.compose([values[0] for values in self.typed.values()])

    @cached_property
    def axes(self) -> dict[str, list[str]]:
        """All axes: those of the configuration's grid, unless typed or fixed, then the typed."""
        sweep: Any = self.first.config.get("sweep", {})
        given, own = self.given, {}
        for key, values in _flat(sweep.get("grid") or {}):
            if not isinstance(values, list) or not values:
                raise ConfigError(
                    f"sweep.grid.{key}={values} must be a list of values; allowed: [1,2]"
                )
            if key not in given:
                own[key] = [f"{key}={as_value(value)}" for value in values]
        return own | self.typed

    def combinations(self) -> list[list[str]]:
        """Returns the overrides of every job: one of each axis, then those of the further jobs.

        Raises:
            ConfigError: If they are too many.
        """
        count = math.prod(map(len, self.axes.values())) + len(self.also)
        if count > MAX_JOBS:
            raise ConfigError(f"a sweep of {count} jobs; allowed: at most {MAX_JOBS}")
        return [*(list(axes) for axes in product(*self.axes.values())), *self.also]

    @cached_property
    def also(self) -> list[list[str]]:
        """The overrides of the jobs beside the grid, less what the command line fixes."""
        sweep: Any = self.first.config.get("sweep", {})
        fixed = {o.key_or_group for o in self._parsed if not o.is_sweep_override()}
        also = sweep.get("also") or []
        if not isinstance(also, list) or not all(isinstance(job, Mapping) for job in also):
            raise ConfigError(
                f"sweep.also={shortened(also)} must be a list of settings; allowed: "
                "[{method: npo, adapter: lora}]"
            )
        found = []
        for settings in also:
            flat = [(key, value) for key, value in leaves(settings) if key and key not in fixed]
            found.append([f"{key}={as_value(value)}" for key, value in flat])
        return found

    def compose(self, axes: Sequence[str]) -> Composed:
        """Returns the configuration of a job.

        Raises:
            HydraException: If it cannot be composed; OmegaConf's errors likewise.
        """
        return resolve(self._nodes(axes), [*self.fixed, *axes], self.folders)

    def _nodes(self, axes: Sequence[str]) -> Pair:
        """Returns a job as another one with other values, where that is the same."""
        values = [override for override in axes if self._is_value(override)]
        rest = tuple(override for override in axes if override not in values)
        if rest not in self._bases:
            self._bases[rest] = compose_nodes([*self.fixed, *rest], self.folders)
        base, around = self._bases[rest]
        config = deepcopy(base)
        for override in OverridesParser.create().parse_overrides(values):
            key, value = override.key_or_group, override.value()
            OmegaConf.update(config, key, value, merge=True, force_add=True)
        return config, around

    def _is_value(self, override: str) -> bool:
        key = override.partition("=")[0]
        shared = [o.key_or_group for o in self._parsed if not o.is_sweep_override()]
        related = any(f"{key}.".startswith(f"{o}.") or o.startswith(f"{key}.") for o in shared)
        return is_value(override, self._groups) and not related

    @cached_property
    def _groups(self) -> dict[str, list[str]]:
        return groups(CONF, *self.folders)


def _flat(grid: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yields the axes of a grid; `sweep.grid.train.lr=[...]` on a command line nests its key."""
    for key, values in grid.items():
        if isinstance(values, Mapping):
            yield from _flat(values, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", values
