"""Where the parameters and gradients of a trained model live: here, in replicas, or in shards.

Training, rectifiers and checkpoints handle only what a rank *holds* of a tensor (all of it, or a
shard), as plain tensors. What is asked of all ranks together goes through `total`.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from unlearn_runner.distributed.ranks import ALONE, Ranks
from unlearn_runner.distributed.state import restore_trainable, trainable_state

SHARD = "shard"
"""Key of a dictionary that stands, in a checkpoint, for a tensor of which it holds a piece."""


@dataclass
class Parts:
    """A tensor of a checkpoint in pieces along its first dimension, read when it is needed."""

    pieces: list[Tensor]

    def whole(self) -> Tensor:
        """Returns the tensor."""
        return torch.cat(self.pieces)


def autocast(device: torch.device, precision: str) -> AbstractContextManager[object]:
    """Returns the context of a whole model's forward pass; only bf16 changes anything."""
    if precision != "bf16":
        return nullcontext()
    return torch.autocast(device.type, dtype=torch.bfloat16)


@dataclass(frozen=True)
class Layout:
    """Everything is held by this process; the base class of the other layouts."""

    ranks: Ranks = ALONE
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    @property
    def sharded(self) -> bool:
        """Whether a rank holds pieces of tensors."""
        return False

    @property
    def loading(self) -> torch.device:
        """Where a model is loaded before it is placed."""
        return self.device

    def place(self, model: Any, precision: str) -> Any:
        """Returns a loaded model where it is to be trained, or asked beside a trained one."""
        return model.to(self.device)

    def autocast(self, precision: str) -> AbstractContextManager[object]:
        """Returns the context of a forward pass."""
        return autocast(self.device, precision)

    def before_backward(self, model: Any, last: bool) -> None:
        """Told before each backward pass whether it is the last one of its group of terms."""

    def release(self, model: Any) -> None:
        """Frees what a forward pass has gathered, where no backward pass follows that would."""

    def to_local(self, gradient: Tensor) -> Tensor:
        """Returns what this rank holds of a parameter's gradient, as a plain tensor."""
        return gradient

    def from_local(self, held: Tensor, parameter: nn.Parameter) -> Tensor:
        """Returns what is held of a parameter's gradient in the parameter's own form."""
        return held

    def reduce(self, gradient: list[Tensor | None]) -> None:
        """Sums a pass's gradient over the ranks, in place, unless the backward pass did."""

    def flat_shard(self, held: Tensor) -> Tensor:
        """Returns the part of a held tensor that enters sums over all ranks here; [numbers]."""
        return held.reshape(-1)

    def total(self, numbers: Tensor) -> Tensor:
        """Returns sums over all ranks."""
        return self.ranks.all_reduce_sum(numbers)

    def to_checkpoint(self, held: Tensor) -> Any:
        """Returns a held tensor as a checkpoint stores it."""
        return held

    def from_checkpoint(self, stored: Any, parameter: nn.Parameter) -> Tensor:
        """Returns what this rank holds of a tensor of a parameter's shape, from any checkpoint."""
        return stored.whole() if isinstance(stored, Parts) else stored

    def state(self, model: Any) -> dict[str, Any]:
        """Returns a model's weights as a checkpoint stores them; of an adapted one, the trained."""
        return trainable_state(model)

    def restore(self, model: Any, stored: dict[str, Any]) -> None:
        """Loads what `state` returned, here or in any other layout.

        Raises:
            RuntimeError: If it is of another model.
        """
        whole = {n: v.whole() if isinstance(v, Parts) else v for n, v in stored.items()}
        restore_trainable(model, whole)

    def whole_state(self, model: Any, trained_only: bool = False) -> dict[str, Tensor] | None:
        """Returns a model's weights, whole, on rank 0; none stands for the model's own.

        Every rank must call it.

        Args:
            model: As `place` returned it.
            trained_only: Leave out what is frozen.
        """
        return None
