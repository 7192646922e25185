"""Layout: where parameters and gradients of a trained model live (one process, replicas, shards).

Training, rectifiers and checkpoints handle only the local part of a tensor (all of it, or a shard),
as plain tensors. Sums over all ranks go through `total`.
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
"""Key of the one-entry dictionary that stands, in a checkpoint, for a shard of a tensor."""


@dataclass
class TensorShards:
    """A tensor of a checkpoint in shards along its first dimension, read when it is needed."""

    shards: list[Tensor]

    def whole(self) -> Tensor:
        """Returns the whole tensor."""
        return torch.cat(self.shards)


def autocast(device: torch.device, precision: str) -> AbstractContextManager[object]:
    """Returns the autocast context of a model's forward pass; a null context unless bf16."""
    if precision != "bf16":
        return nullcontext()
    return torch.autocast(device.type, dtype=torch.bfloat16)


@dataclass(frozen=True)
class Layout:
    """Layout of one process, which has every tensor whole; base class of the other layouts."""

    ranks: Ranks = ALONE
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    @property
    def sharded(self) -> bool:
        """Whether a rank has only a shard of each tensor."""
        return False

    @property
    def loading(self) -> torch.device:
        """Device that a model is loaded to before it is placed."""
        return self.device

    def place(self, model: Any, precision: str) -> Any:
        """Returns a loaded model as this layout has it, for training or for forward passes."""
        return model.to(self.device)

    def autocast(self, precision: str) -> AbstractContextManager[object]:
        """Returns the context of a forward pass."""
        return autocast(self.device, precision)

    def before_backward(self, model: Any, last: bool) -> None:
        """Prepares a backward pass; `last` says whether it is the last of its group of terms."""

    def release(self, model: Any) -> None:
        """Reshards what a forward pass has gathered, if no backward pass follows it."""

    def to_local(self, gradient: Tensor) -> Tensor:
        """Returns the local part of a parameter or its gradient, as a plain tensor."""
        return gradient

    def from_local(self, local: Tensor, parameter: nn.Parameter) -> Tensor:
        """Returns a local part as a tensor of the parameter's own kind."""
        return local

    def reduce(self, gradient: list[Tensor | None]) -> None:
        """Sums a pass's gradient over the ranks, in place, unless the backward pass did."""

    def flat_shard(self, local: Tensor) -> Tensor:
        """Returns this rank's addends of a sum over all numbers of a tensor; [numbers]."""
        return local.reshape(-1)

    def total(self, numbers: Tensor) -> Tensor:
        """Returns sums over all ranks."""
        return self.ranks.all_reduce_sum(numbers)

    def to_checkpoint(self, local: Tensor) -> Any:
        """Returns a local part as a checkpoint stores it."""
        return local

    def from_checkpoint(self, stored: Any, parameter: nn.Parameter) -> Tensor:
        """Returns the local part of a stored tensor of the parameter's shape, of any layout."""
        return stored.whole() if isinstance(stored, TensorShards) else stored

    def state(self, model: Any) -> dict[str, Any]:
        """Returns a model's weights as a checkpoint stores them; only what is trained."""
        return trainable_state(model)

    def restore(self, model: Any, stored: dict[str, Any]) -> None:
        """Loads what `state` of any layout returned.

        Raises:
            RuntimeError: If it is of another model.
        """
        whole = {n: v.whole() if isinstance(v, TensorShards) else v for n, v in stored.items()}
        restore_trainable(model, whole)

    def whole_state(self, model: Any, trained_only: bool = False) -> dict[str, Tensor] | None:
        """Returns a model's weights, whole, on rank 0; none stands for its own `state_dict`.

        Every rank must call it.

        Args:
            model: As `place` returned it.
            trained_only: Leave out what is frozen.
        """
        return None
