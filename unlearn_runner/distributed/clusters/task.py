"""Task: what SLURM runs; a job's process as a child, and its requeueing.

SLURM warns every process of a job by SIGUSR2. submitit's handler would at once end this process in
the middle of a step; so it is replaced for the time, the signal is forwarded to the job's process,
which stops its ranks after a step and saves a checkpoint; only then the handler requeues the job.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from unlearn_runner.distributed.clusters.spec import JobSpec
from unlearn_runner.errors import SIGNALLED

WARNING = signal.SIGUSR2
AGAIN_S = 5.0


@dataclass
class Task:
    """Job as submitit stores it: overrides as typed, not their values, which may be secret."""

    spec: str

    def __call__(self) -> int:
        """Runs the job to its end, or to a checkpoint.

        Returns:
            The exit code of the job's process.
        """
        spec = JobSpec(**json.loads(self.spec))
        requeue: Any = signal.getsignal(WARNING)
        warnings: list[int] = []
        signal.signal(WARNING, lambda number, _: warnings.append(number))
        process = spec.start(env=_environment())
        code, forwarded = None, 0.0
        while code is None:
            with suppress(subprocess.TimeoutExpired):
                code = process.wait(timeout=0.2)
            # Repeated, because a signal can come before all ranks have started.
            if code is None and warnings and time.monotonic() - forwarded >= AGAIN_S:
                forwarded = time.monotonic()
                process.send_signal(WARNING)
        signal.signal(WARNING, requeue)
        if code == SIGNALLED + WARNING and callable(requeue):
            requeue(WARNING, None)  # writes what to run, tells SLURM, and ends this process
        return code

    def checkpoint(self) -> Any:
        """Returns what to run when the job is started again: the same."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)


def _environment() -> dict[str, str]:
    """Returns the environment without SLURM's numbering of its tasks: a rank is none of them."""
    of_tasks = ("SLURM_PROCID", "SLURM_LOCALID", "SLURM_NTASKS", "SLURM_NPROCS")
    return {name: value for name, value in os.environ.items() if name not in of_tasks}
