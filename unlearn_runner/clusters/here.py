"""The embedded launcher: one job after another in this process, which stays warm."""

from __future__ import annotations

import gc
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from unlearn_runner import interrupt
from unlearn_runner.clusters.base import Cluster
from unlearn_runner.errors import UserError

if TYPE_CHECKING:
    from unlearn_runner.sweeps.board import Board
    from unlearn_runner.sweeps.points import Point


@dataclass(frozen=True)
class Here(Cluster):
    """This process. Libraries are loaded once; models are freed after each job."""

    @property
    def elsewhere(self) -> bool:
        """A single job runs here."""
        return False

    def run(self, points: Sequence[Point], board: Board) -> None:
        """Runs the jobs in order."""
        from unlearn_runner.experiment import run_planned

        for point in points:
            interrupt.check()
            if board.stopped:
                return
            board.begin(point)
            cause: Exception | None = None
            code = 0
            try:
                code = run_planned(point.planned, brief=True)
            except UserError as error:
                cause, code = error, 2
            except Exception as error:  # its traceback is in the run folder
                cause, code = error, 1
            board.end(point, code, cause)
            cause = None
            free()


def free() -> None:
    """Gives back what a job held: its models, and what a device keeps for them."""
    torch = sys.modules.get("torch")
    if torch is None:
        return
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
