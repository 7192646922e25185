"""Several jobs at a time on this machine."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from annotated_types import Ge

from unlearn_runner import interrupt
from unlearn_runner.clusters.base import Cluster
from unlearn_runner.clusters.gpus import take
from unlearn_runner.errors import ConfigError
from unlearn_runner.parallel.base import Parallel
from unlearn_runner.parallel.gpus import visible
from unlearn_runner.sweeps import child

if TYPE_CHECKING:
    from unlearn_runner.sweeps.board import Board
    from unlearn_runner.sweeps.points import Point

POLL_S = 0.1


@dataclass(frozen=True)
class Local(Cluster):
    """Child processes. They end with this one, and so do their ranks."""

    jobs: Annotated[int, Ge(1)] | None = None
    """Jobs at a time; null is as many as there are GPUs for, or one per core."""
    gpus: Annotated[int, Ge(0)] | None = None
    """GPUs of each job; null is `parallel.ranks`, or 1, where any are visible. A job waits for GPUs
    that other sweeps of this machine hold."""

    def run(self, points: Sequence[Point], board: Board) -> None:
        """Starts the jobs in order, as places become free."""
        room = Room(self, points[0].planned.run.parallel)
        queue, running = list(points), list[Running]()
        told = False
        try:
            while queue or running:
                if board.stopped:
                    queue.clear()
                asked = interrupt.requested()
                if asked:
                    queue.clear()
                if (asked or board.stopped) and not told:
                    told = True
                    for job in running:
                        job.signal(asked or signal.SIGTERM)
                while queue and len(running) < room.at_once:
                    started = room.start(queue[0], board)
                    if started is None:
                        break
                    running.append(started)
                    queue.pop(0)
                for job in [job for job in running if job.over()]:
                    running.remove(job)
                    job.close(board)
                time.sleep(POLL_S)
        finally:
            for job in running:
                job.kill()
        interrupt.check()


class Room:
    """What this machine has for jobs."""

    def __init__(self, settings: Local, parallel: Parallel) -> None:
        self.visible = visible(parallel.device)
        self.need = settings.gpus
        if self.need is None:
            self.need = (parallel.ranks or 1) if self.visible else 0
        elif settings.gpus:
            self.visible = self.visible or visible()
        if self.need > len(self.visible):
            raise ConfigError(
                f"a job needs {self.need} GPUs, and {len(self.visible)} are visible",
                f"cluster.gpus={max(1, len(self.visible))} or parallel.ranks",
            )
        cores, ranks = len(os.sched_getaffinity(0)), parallel.ranks or 1
        each = (parallel.threads or 1) * ranks
        most = len(self.visible) // self.need if self.need else max(1, cores // each)
        self.at_once = settings.jobs or most
        self.threads = parallel.threads or max(1, cores // self.at_once // ranks)

    def start(self, point: Point, board: Board) -> Running | None:
        """Starts a job, or returns none where no GPUs are free for it."""
        held = ExitStack()
        mine = take(self.visible, self.need or 0, held)
        if mine is None:
            return None
        board.begin(point)
        order = point.order().with_overrides(f"parallel.threads={self.threads}")
        order.log.parent.mkdir(parents=True, exist_ok=True)
        environment = {**os.environ, "OMP_NUM_THREADS": str(self.threads)}
        if mine:
            environment["CUDA_VISIBLE_DEVICES"] = ",".join(mine)
        with order.log.open("ab") as log, interrupt.held_back():
            process = subprocess.Popen(
                child.command(),
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                env=environment,
                start_new_session=True,  # Ctrl-C reaches us alone, and we hand it on
            )
        assert process.stdin is not None
        with suppress(BrokenPipeError):  # it died at once, and will be found so
            process.stdin.write(order.text().encode() + b"\n")
            process.stdin.flush()
        return Running(point, process, order, held)


@dataclass
class Running:
    """A job's process; its input stays open, for its end means that we are gone."""

    point: Point
    process: subprocess.Popen[bytes]
    order: child.Order
    held: ExitStack

    def over(self) -> bool:
        """Returns whether it has ended."""
        return self.process.poll() is not None

    def signal(self, number: int) -> None:
        """Asks it to end at its next step."""
        if not self.over():
            self.process.send_signal(number)

    def close(self, board: Board) -> None:
        """Gives back its GPUs, and tells how it ended."""
        self.held.close()
        code = self.process.returncode
        board.end(self.point, code, child.ended(code, self.order.log))

    def kill(self) -> None:
        """Ends it by force."""
        self.process.kill()
        self.process.wait()
        self.held.close()
