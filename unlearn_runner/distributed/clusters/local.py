"""Local: several jobs of a sweep at a time on this machine."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Annotated, Any

from annotated_types import Ge, Le

from unlearn_runner.distributed.base import Parallel
from unlearn_runner.distributed.clusters.base import Cluster, Job, Monitor
from unlearn_runner.distributed.clusters.spec import JobSpec, exit_cause
from unlearn_runner.distributed.gpus import lock_gpus, visible
from unlearn_runner.errors import ConfigError
from unlearn_runner.utils import signals

POLL_S = 0.1


@dataclass(frozen=True)
class Local(Cluster):
    """Child processes on this machine. They end with this one, and so do their ranks."""

    jobs: Annotated[int, Ge(1), Le(1024)] | None = None
    """Jobs at a time; null is as many as there are GPUs for, or one per core."""
    gpus: Annotated[int, Ge(0), Le(256)] | None = None
    """GPUs of each job; null is `parallel.ranks`, or 1, where any are visible. A job waits for GPUs
    that other sweeps of this machine hold."""

    def run(self, jobs: Sequence[Job], monitor: Monitor) -> None:
        """Starts the jobs in order, as slots become free."""
        slots = MachineSlots(self, jobs[0].parallel)
        queue, running = list(jobs), list[RunningJob]()
        signalled = False
        try:
            while queue or running:
                if monitor.stopped:
                    queue.clear()
                stop_requested = signals.requested()
                if stop_requested:
                    queue.clear()
                if (stop_requested or monitor.stopped) and not signalled:
                    signalled = True
                    for job in running:
                        # It stops after its next step.
                        job.process.send_signal(stop_requested or signal.SIGTERM)
                while queue and len(running) < slots.at_once:
                    started = slots.start(queue[0], monitor)
                    if started is None:
                        break
                    running.append(started)
                    queue.pop(0)
                for job in [job for job in running if job.process.poll() is not None]:
                    running.remove(job)
                    job.close(monitor)
                time.sleep(POLL_S)
        finally:
            for job in running:
                job.kill()
        signals.check()


class MachineSlots:
    """GPUs and cores of this machine, shared out to jobs."""

    def __init__(self, settings: Local, parallel: Parallel) -> None:
        self.gpus = visible(parallel.device)
        if settings.gpus:
            self.gpus = self.gpus or visible()
        cores, ranks = len(os.sched_getaffinity(0)), parallel.ranks or 1
        self.gpus_per_job = settings.gpus if settings.gpus is not None else ranks
        if settings.gpus is None and not self.gpus:
            self.gpus_per_job = 0
        if self.gpus_per_job > len(self.gpus):
            raise ConfigError(
                f"a job needs {self.gpus_per_job} GPUs, and {len(self.gpus)} are visible",
                f"cluster.gpus={max(1, len(self.gpus))} or parallel.ranks",
            )
        by_cores = max(1, cores // ((parallel.threads or 1) * ranks))
        by_gpus = len(self.gpus) // self.gpus_per_job if self.gpus_per_job else by_cores
        self.at_once = settings.jobs or by_gpus
        self.threads = parallel.threads or max(1, cores // self.at_once // ranks)

    def start(self, job: Job, monitor: Monitor) -> RunningJob | None:
        """Starts a job, or returns none where too few GPUs are free for it."""
        locks = ExitStack()
        gpus = lock_gpus(self.gpus, self.gpus_per_job, locks)
        if gpus is None:
            return None
        monitor.begin(job)
        spec = job.spec().with_overrides(f"parallel.threads={self.threads}")
        environment = {**os.environ, "OMP_NUM_THREADS": str(self.threads)}
        if gpus:
            environment["CUDA_VISIBLE_DEVICES"] = ",".join(gpus)
        # In a session of its own: Ctrl-C reaches this process alone, which forwards it.
        process = spec.start(env=environment, start_new_session=True)
        return RunningJob(job, process, spec, locks)


@dataclass
class RunningJob:
    """Process of a job; its input stays open, for its end means that the launcher is gone."""

    job: Job
    process: subprocess.Popen[Any]
    spec: JobSpec
    locks: ExitStack

    def close(self, monitor: Monitor) -> None:
        """Unlocks its GPUs, and reports how it ended."""
        self.locks.close()
        code = self.process.returncode
        monitor.end(self.job, code, exit_cause(code, self.spec.log))

    def kill(self) -> None:
        """Kills it."""
        self.process.kill()
        self.process.wait()
        self.locks.close()
