"""A sweep: a grid of settings, and what happens when a point of it fails."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from unlearn_runner.errors import ConfigError
from unlearn_runner.sweeps.select import Select


@dataclass(frozen=True)
class Sweep:
    """The axes of a grid beside those that the command line gives, and how to go through it."""

    name: str | None = None
    """Folder outputs/sweeps/<name>; `name=` on the command line comes first."""
    grid: dict[str, tuple[Any, ...]] = field(default_factory=dict)
    """Values by dotted key, or options by group; the same key on the command line replaces it."""
    fail_fast: bool = False
    """Start no further job after a failure, and end those that run at their next step."""
    select: Select = field(default_factory=Select)
    """Which setting is chosen at the end."""

    def __post_init__(self) -> None:
        for key, values in self.grid.items():
            if not values:
                raise ConfigError(f"sweep.grid: {key} has no values", f"{key}: [1, 2]")
