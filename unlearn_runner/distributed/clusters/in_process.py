"""InProcess: the jobs of a sweep one after another in this process."""

from __future__ import annotations

import gc
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from unlearn_runner.distributed.clusters.base import Cluster, Job, Monitor
from unlearn_runner.errors import UserError
from unlearn_runner.utils import signals


@dataclass(frozen=True)
class InProcess(Cluster):
    """This process. Libraries are loaded once; models are freed after each job."""

    @property
    def elsewhere(self) -> bool:
        """A single job runs here."""
        return False

    def run(self, jobs: Sequence[Job], monitor: Monitor) -> None:
        """Runs the jobs in order."""
        for job in jobs:
            signals.check()
            if monitor.stopped:
                return
            monitor.begin(job)
            try:
                code = job.run()
            except UserError as error:
                monitor.end(job, 2, error)
            except Exception as error:  # its traceback is in the run folder
                monitor.end(job, 1, error)
            else:
                monitor.end(job, code)
            free_memory()


def free_memory() -> None:
    """Frees a job's models, and the memory that a device keeps for them."""
    torch = sys.modules.get("torch")
    if torch is None:
        return
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
