"""Several jobs at a time on this machine."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Annotated, Any

from annotated_types import Ge

from unlearn_runner.distributed.base import Parallel
from unlearn_runner.distributed.clusters.base import Cluster, Job, Monitor
from unlearn_runner.distributed.clusters.spec import JobSpec, command, exit_cause
from unlearn_runner.distributed.gpus import take, visible
from unlearn_runner.errors import ConfigError
from unlearn_runner.utils import signals
from unlearn_runner.utils.process import feed, start_child

POLL_S = 0.1


@dataclass(frozen=True)
class Local(Cluster):
    """Child processes. They end with this one, and so do their ranks."""

    jobs: Annotated[int, Ge(1)] | None = None
    """Jobs at a time; null is as many as there are GPUs for, or one per core."""
    gpus: Annotated[int, Ge(0)] | None = None
    """GPUs of each job; null is `parallel.ranks`, or 1, where any are visible. A job waits for GPUs
    that other sweeps of this machine hold."""

    def run(self, jobs: Sequence[Job], monitor: Monitor) -> None:
        """Starts the jobs in order, as places become free."""
        room = Room(self, jobs[0].parallel)
        queue, running = list(jobs), list[Running]()
        told = False
        try:
            while queue or running:
                if monitor.stopped:
                    queue.clear()
                stop_requested = signals.requested()
                if stop_requested:
                    queue.clear()
                if (stop_requested or monitor.stopped) and not told:
                    told = True
                    for job in running:
                        job.signal(stop_requested or signal.SIGTERM)
                while queue and len(running) < room.at_once:
                    started = room.start(queue[0], monitor)
                    if started is None:
                        break
                    running.append(started)
                    queue.pop(0)
                for job in [job for job in running if job.over()]:
                    running.remove(job)
                    job.close(monitor)
                time.sleep(POLL_S)
        finally:
            for job in running:
                job.kill()
        signals.check()


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

    def start(self, job: Job, monitor: Monitor) -> Running | None:
        """Starts a job, or returns none where no GPUs are free for it."""
        locks = ExitStack()
        mine = take(self.visible, self.need or 0, locks)
        if mine is None:
            return None
        monitor.begin(job)
        spec = job.spec().with_overrides(f"parallel.threads={self.threads}")
        spec.log.parent.mkdir(parents=True, exist_ok=True)
        environment = {**os.environ, "OMP_NUM_THREADS": str(self.threads)}
        if mine:
            environment["CUDA_VISIBLE_DEVICES"] = ",".join(mine)
        with spec.log.open("ab") as log:
            process = start_child(
                command(),
                stdout=log,
                stderr=log,
                env=environment,
                start_new_session=True,  # Ctrl-C reaches us alone, and we hand it on
            )
        feed(process, spec.text())
        return Running(job, process, spec, locks)


@dataclass
class Running:
    """A job's process; its input stays open, for its end means that we are gone."""

    job: Job
    process: subprocess.Popen[Any]
    spec: JobSpec
    locks: ExitStack

    def over(self) -> bool:
        """Returns whether it has ended."""
        return self.process.poll() is not None

    def signal(self, number: int) -> None:
        """Asks it to end at its next step."""
        if not self.over():
            self.process.send_signal(number)

    def close(self, monitor: Monitor) -> None:
        """Gives back its GPUs, and tells how it ended."""
        self.locks.close()
        code = self.process.returncode
        monitor.end(self.job, code, exit_cause(code, self.spec.log))

    def kill(self) -> None:
        """Ends it by force."""
        self.process.kill()
        self.process.wait()
        self.locks.close()
