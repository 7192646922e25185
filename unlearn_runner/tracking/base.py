"""Mirrors of a run's telemetry; the files in the run folder are the truth and need no tracker."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from unlearn_runner.errors import ConfigError

Figures = Callable[[Path], dict[str, str]]
"""Returns SVG by file name, drawn from a run folder."""
ANSWERS = ("view", "row", "question", "expected", "before", "after", "retain_model")
Answers = Callable[[Path], list[tuple[str, ...]]]
"""Returns a few of a run's generated answers, under the headings of `ANSWERS`."""


@dataclass(frozen=True)
class Mirrored:
    """What a tracker knows of the run it mirrors."""

    folder: Path
    """The run folder; what a tracker writes goes below it."""
    identity: str
    """Hash of the folder, the settings and the stages' keys: the same when a run is continued."""
    config: Mapping[str, Any]
    """The resolved configuration, secrets removed."""
    warn: Callable[[str], None] = field(repr=False)
    """Says that the mirror is less than was wanted, where it is not lost altogether."""
    figures: Figures = field(default=lambda _: {}, repr=False)
    """Draws what the run folder holds."""
    answers: Answers = field(default=lambda _: [], repr=False)
    """Reads a few of the models' answers."""

    @property
    def name(self) -> str:
        """The run's name: the run folder's."""
        return self.folder.name

    @property
    def sweep(self) -> str | None:
        """Name of the sweep that the run is a job of."""
        parent = self.folder.parent
        return parent.name if parent.parent.name == "sweeps" else None


class Sink:
    """An opened mirror. Calls may fail or take long: `tracking.safe` keeps both from training."""

    def line(self, facts: Mapping[str, Any]) -> None:
        """Takes one line of `metrics.jsonl`: "stage", "step" and numbers; null is not finite."""

    def results(self, content: Mapping[str, Any]) -> None:
        """Takes what `results.json` holds."""

    def finish(self, status: str) -> None:
        """Takes how the run ended, and closes."""


@dataclass(frozen=True)
class Tracker:
    """Base class of trackers: settings of a mirror, and how to open it."""

    patience: ClassVar[float] = 30.0
    """Seconds that a run waits for the mirror, once when it opens and once when it closes."""

    @property
    def mirrors(self) -> bool:
        """Whether there is anything to open."""
        return True

    def open(self, run: Mirrored) -> Sink:
        """Opens the mirror; imports what it needs."""
        raise NotImplementedError


@dataclass(frozen=True)
class Files(Tracker):
    """Nothing beside `metrics.jsonl`, `results.json` and `status.json`."""

    @property
    def mirrors(self) -> bool:
        """Nothing to open."""
        return False


def numbers(facts: Mapping[str, Any]) -> dict[str, float | None]:
    """Returns a line's numbers, those that were not finite included, without stage and step."""
    return {
        key: value
        for key, value in facts.items()
        if key not in ("stage", "step") and (value is None or isinstance(value, (int, float)))
    }


def undotted(name: str) -> str:
    """Returns a metric's name for dashboards that take a dot for a level: a/b for a.b."""
    return name.replace(".", "/")


TABLE = ("metric", "target", "unlearned", "retain_model")


def table(scores: Mapping[str, float | None]) -> list[tuple[str | float | None, ...]]:
    """Returns the rows of the results table, under the headings of `TABLE`."""
    names = (re.sub(r"^(target|retain_model)\.", "", name) for name in scores)
    return [
        (name, scores.get(f"target.{name}"), scores.get(name), scores.get(f"retain_model.{name}"))
        for name in dict.fromkeys(names)
    ]


def require(package: str, option: str) -> None:
    """Refuses a tracker whose package is not installed, without importing it.

    Raises:
        ConfigError: If there is no such package.
    """
    from importlib.util import find_spec

    try:
        installed = find_spec(package) is not None
    except (ImportError, ValueError):
        installed = False
    if not installed:
        raise ConfigError(
            f"tracker={option} needs the package {package}, which is not installed; without it:"
            " tracker=files",
            f"pip install 'unlearn-runner[{option}]'",
        )
