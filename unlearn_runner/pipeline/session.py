"""One process's share of the machine: its rank, device, threads, and where models live.

accelerate's `Accelerator` holds process state and device and reads what `accelerate launch` sets;
the training step itself is ours.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from accelerate import Accelerator, InitProcessGroupKwargs

# Imported together, when the first stage is computed: a file edited in the middle of a long run
# must not reach a later stage, whose key was made from the text as it was planned.
import unlearn_runner.evaluation.probes.generations
import unlearn_runner.training.engine  # noqa: F401
from unlearn_runner.distributed import external
from unlearn_runner.distributed.base import Parallel
from unlearn_runner.distributed.layout import Layout, autocast
from unlearn_runner.distributed.ranks import ALONE, Ranks
from unlearn_runner.models import load

PATIENCE = timedelta(days=7)
"""How long ranks wait where waiting is no fault."""


@dataclass(frozen=True)
class Session:
    """The opened device of this process, and its place among the ranks."""

    threads: int
    attention: str
    """Attention kernel of the models this session loads."""
    layout: Layout

    @property
    def ranks(self) -> Ranks:
        """The processes of this run."""
        return self.layout.ranks

    @property
    def device(self) -> torch.device:
        """Where batches live, and models that are whole."""
        return self.layout.device

    def autocast(self, precision: str) -> AbstractContextManager[object]:
        """Returns the context of a forward pass of a model that is whole in this process."""
        return autocast(self.device, precision)

    def trainable(
        self,
        folder: Path,
        precision: str,
        prepare: Callable[[Any], object] | None = None,
        storage: str = "float32",
    ) -> Any:
        """Loads a saved model to be trained in a precision, where the layout has it.

        `prepare` gets the whole model before it is placed: it freezes parts, adds adapters; then
        `storage` is "bf16" for weights that are not trained.
        """
        model = load.load_model(folder, precision, self.layout.loading, self.attention, storage)
        if prepare is not None:
            prepare(model)
        return self.layout.place(model, precision)

    def frozen(self, folder: Path, precision: str, base: Path | None = None) -> Any:
        """Loads a model for inference, whole, in this process; an adapter with its base."""
        return load.load_frozen(folder, precision, self.device, self.attention, base)

    def save(self, model: Any, tokenizer: Any, folder: Path, dtype: str = "float32") -> None:
        """Saves a model as an ordinary folder; every rank must call it."""
        state = self.layout.whole_state(model)
        if self.ranks.main:
            load.save(model, tokenizer, folder, dtype, state)
        self.ranks.barrier()


def open_session(parallel: Parallel) -> Session:
    """Fixes threads, device and ranks for the rest of the process."""
    world = external.world() or 1
    here = external.whole_number("LOCAL_WORLD_SIZE") or world
    threads = parallel.threads or max(1, len(os.sched_getaffinity(0)) // here)
    torch.set_num_threads(threads)
    # An accelerate configuration for FSDP chose parallel=fsdp2; its own wrapping is not used.
    os.environ.pop("ACCELERATE_USE_FSDP", None)
    waiting = InitProcessGroupKwargs(timeout=timedelta(seconds=parallel.timeout))
    device = Accelerator(cpu=parallel.device == "cpu", kwargs_handlers=[waiting]).device
    ranks = ALONE
    if world > 1:
        control = dist.new_group(backend="gloo", timeout=waiting.timeout)
        patient = dist.new_group(backend="gloo", timeout=PATIENCE)
        ranks = Ranks(dist.get_rank(), world, control, patient)
    if device.type == "cpu":
        device = torch.device("cpu")  # accelerate numbers it, and torch.load then knows none such
    return Session(threads, parallel.attention, parallel.layout(ranks, device))
