"""One process's share of the machine: device, threads, precision, rank.

accelerate's `Accelerator` holds process state and device and reads what `accelerate launch` sets;
the training step itself is ours.
"""

from __future__ import annotations

import os
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from accelerate import Accelerator
from transformers.utils.logging import disable_progress_bar

# Imported together, when the first stage is computed: a file edited in the middle of a long run
# must not reach a later stage, whose key was made from the text as it was planned.
import unlearn_runner.models.load
import unlearn_runner.probes.evidence
import unlearn_runner.probes.generations
import unlearn_runner.training.engine  # noqa: F401
from unlearn_runner.parallel.base import Parallel


@dataclass(frozen=True)
class Session:
    """The opened device of this process."""

    accelerator: Accelerator
    threads: int
    attention: str
    """Attention kernel of the models this session loads."""

    @property
    def device(self) -> torch.device:
        """Where models and batches live."""
        return self.accelerator.device

    def autocast(self, precision: str) -> AbstractContextManager[object]:
        """Returns the context of a forward pass; only bf16 changes anything."""
        if precision != "bf16":
            return nullcontext()
        return torch.autocast(self.device.type, dtype=torch.bfloat16)


def open_session(parallel: Parallel) -> Session:
    """Fixes threads and device for the rest of the process."""
    threads = parallel.threads or len(os.sched_getaffinity(0))
    torch.set_num_threads(threads)
    disable_progress_bar()  # transformers would draw one per loaded model
    accelerator = Accelerator(cpu=parallel.device == "cpu")
    return Session(accelerator, threads, parallel.attention)
