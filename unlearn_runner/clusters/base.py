"""Where the jobs of a sweep run. A cluster is a frozen dataclass and one YAML, like a method."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from unlearn_runner.sweeps.board import Board
    from unlearn_runner.sweeps.points import Point


@dataclass(frozen=True)
class Cluster(ABC):
    """Base class of the places that jobs run at."""

    @property
    def elsewhere(self) -> bool:
        """Whether even a single job runs in another process."""
        return True

    def check(self) -> None:  # noqa: B027 (most need nothing)
        """Refuses what cannot work here, before anything is written.

        Raises:
            ConfigError: With what is missing.
        """

    @abstractmethod
    def run(self, points: Sequence[Point], board: Board) -> None:
        """Runs jobs to their ends, whatever these are, and tells the board of each.

        Args:
            points: What there is to do, in order.
            board: Told by `begin` and `end`; says when to stop.

        Raises:
            Interrupted: If a signal asked for it; then no job is running any more, or a scheduler
                has them.
        """
