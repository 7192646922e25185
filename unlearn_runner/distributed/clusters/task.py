"""What SLURM runs: a job's process as a child, and its way back into the queue.

SLURM warns every process of a job by SIGUSR2. submitit's handler would at once end this process in
the middle of a step; so it is kept aside, the job's process is told, agrees with its ranks on a
step, leaves a checkpoint and ends, and only then the handler puts the job back into the queue.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from contextlib import suppress
from dataclasses import dataclass
from types import FrameType
from typing import Any

from unlearn_runner.distributed.clusters.spec import JobSpec, command
from unlearn_runner.errors import SIGNALLED
from unlearn_runner.utils.process import feed, start_child

WARNING = signal.SIGUSR2
AGAIN_S = 5.0


@dataclass
class Task:
    """One job, as submitit stores it. What it holds are overrides as typed, not their values."""

    spec: str

    def __call__(self) -> int:
        """Runs the job to its end, or to a step that it can continue from.

        Returns:
            The exit code of the job's process.
        """
        spec = JobSpec(**json.loads(self.spec))
        put_back: Any = signal.getsignal(WARNING)
        warned: list[int] = []

        def note(number: int, _: FrameType | None) -> None:
            warned.append(number)

        signal.signal(WARNING, note)
        spec.log.parent.mkdir(parents=True, exist_ok=True)
        with spec.log.open("ab") as log:
            process = start_child(command(), stdout=log, stderr=log, env=_environment())
        feed(process, spec.text())
        code, told = None, 0.0
        while code is None:
            with suppress(subprocess.TimeoutExpired):
                code = process.wait(timeout=0.2)
            # Repeated, because a signal can come before a rank is there to be told.
            if code is None and warned and time.monotonic() - told >= AGAIN_S:
                told = time.monotonic()
                process.send_signal(WARNING)
        signal.signal(WARNING, put_back)
        if code == SIGNALLED + WARNING and callable(put_back):
            put_back(WARNING, None)  # writes what to run, tells SLURM, and ends this process
        return code

    def checkpoint(self) -> Any:
        """Returns what to run when the job gets its turn again: the same."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)


def _environment() -> dict[str, str]:
    """Returns the environment without what SLURM says of its own tasks, which our ranks are not."""
    ours = ("SLURM_PROCID", "SLURM_LOCALID", "SLURM_NTASKS", "SLURM_NPROCS")
    return {name: value for name, value in os.environ.items() if name not in ours}
