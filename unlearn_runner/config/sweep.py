"""Sweep: a grid of settings, or a search whose jobs are proposed batch after batch."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any

from annotated_types import Ge, Le

from unlearn_runner.config.select import Select
from unlearn_runner.errors import ConfigError


@dataclass(frozen=True)
class Sweep:
    """The axes of a grid beside those that the command line gives, and how to go through it."""

    name: str | None = None
    """Folder outputs/sweeps/<name>; `name=` on the command line comes first."""
    grid: dict[str, tuple[Any, ...]] = field(default_factory=dict)
    """Values by dotted key, or options by group; the same key on the command line replaces it."""
    also: tuple[dict[str, Any], ...] = ()
    """Further jobs, each by its own settings: a value by dotted key, an option by group. What the
    command line sets to one value comes first."""
    fail_fast: bool = False
    """Start no further job after a failure, and end those that run at their next step."""
    select: Select = field(default_factory=Select)
    """Which setting is chosen at the end."""

    @property
    def search(self) -> Search | None:
        """Itself, where its jobs are proposed one after another."""
        return None

    def __post_init__(self) -> None:
        for key, values in self.grid.items():
            if not values:
                raise ConfigError(f"sweep.grid: {key} has no values", f"{key}: [1, 2]")
        if not all(self.also):
            raise ConfigError("sweep.also: a job has no settings", "{method: npo, adapter: lora}")


Choice = bool | int | float | str
"""A value of a searched setting."""


@dataclass(frozen=True)
class Range:
    """What a searched setting may be: from `low` to `high`, or one of `choices`."""

    low: int | float | None = None
    high: int | float | None = None
    """Both whole: whole numbers alone."""
    log: bool = False
    """Whether factors count, not differences."""
    choices: tuple[Choice, ...] = ()
    """In place of `low` and `high`; a group's options, too."""

    @property
    def fault(self) -> str:
        """What is wrong with it, or nothing."""
        if self.choices:
            both = self.low is not None or self.high is not None or self.log
            return "has choices beside low, high or log" if both else ""
        if self.low is None or self.high is None:
            return "has neither low and high nor choices"
        if self.low >= self.high:
            return f"has low={self.low:g}, which is not below high={self.high:g}"
        return "has log=true, but low is not above 0" if self.log and self.low <= 0 else ""


@dataclass(frozen=True)
class Search(Sweep):
    """A sweep whose jobs are proposed by a sampler instead of listed."""

    space: dict[str, Range | None] = field(default_factory=dict)
    """By dotted key or group; one that the command line sets, or that is null, is not searched."""
    trials: Annotated[int, Ge(1), Le(10_000)] = 30
    """Settings to try; each is as many jobs as the command line has seeds."""
    batch: Annotated[int, Ge(1), Le(10_000)] = 1
    """Settings proposed at a time: what may run at once. The next batch waits for all of it."""
    startup: Annotated[int, Ge(1), Le(10_000)] = 10
    """Settings drawn at random before the sampler learns from them."""
    seed: Annotated[int, Ge(0), Le(2**32 - 1)] = 0
    """Of the proposals, which depend on it, the space and the earlier scores alone."""

    @property
    def search(self) -> Search:
        """Itself."""
        return self

    def __post_init__(self) -> None:
        super().__post_init__()
        for key, wanted in self.space.items():
            if wanted is not None and wanted.fault:
                raise ConfigError(
                    f"sweep.space: {key} {wanted.fault}",
                    f"{key}: {{low: 0.1, high: 10, log: true}} or {key}: {{choices: [a, b]}}",
                )
        if self.grid or self.also:
            raise ConfigError(
                f"sweep.{'grid' if self.grid else 'also'}: a search proposes its jobs",
                "sweep.space, or another sweep=",
            )
        if self.select.criterion is None:
            raise ConfigError(
                "sweep.select.criterion=null: a search needs something to look for",
                "sweep.select.criterion=forgetting",
            )
