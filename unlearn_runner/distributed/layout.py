"""Layout: where parameters and gradients of a trained model live: whole on each rank, or shards.

Training, rectifiers and checkpoints handle only the local part of a tensor (all of it, or a shard),
as plain tensors. Sums over all ranks go through `total`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from unlearn_runner.distributed.ranks import ALONE, Ranks

BUCKET = 8 << 20  # numbers sent at once: one message per small tensor would be slow
SHARD = "shard"
"""Key of the one-entry dictionary that stands, in a checkpoint, for a shard of a tensor, and once
loaded for the list of all its shards along the first dimension."""


def whole(stored: Any) -> Tensor:
    """Returns a tensor of a loaded checkpoint; its shards are read only here."""
    return torch.cat(stored[SHARD]) if isinstance(stored, dict) else stored


def trainable_state(model: Any) -> dict[str, Tensor]:
    """Returns a model's state by name: all of it, or the trained tensors if some are frozen."""
    if all(parameter.requires_grad for parameter in model.parameters()):
        return model.state_dict()
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    return {name: tensor for name, tensor in model.state_dict().items() if name in trained}


def autocast(device: torch.device, precision: str) -> AbstractContextManager[object]:
    """Returns the autocast context of a model's forward pass; a null context unless bf16."""
    if precision != "bf16":
        return nullcontext()
    return torch.autocast(device.type, dtype=torch.bfloat16)


@dataclass(frozen=True)
class Layout:
    """Layout of whole models on every rank; gradients are summed over ranks after each pass.

    No wrapper module: the models start equal, see gradients with equal bits and so stay equal.
    """

    ranks: Ranks = ALONE
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    @property
    def loading(self) -> torch.device:
        """Device that a model is loaded to before it is placed."""
        return self.device

    def place(self, model: Any, precision: str) -> Any:
        """Returns a loaded model as this layout has it: here with rank 0's weights."""
        model = model.to(self.device)
        if self.ranks.world > 1:
            with torch.no_grad():
                for tensor in (*model.parameters(), *model.buffers()):
                    dist.broadcast(tensor.data, src=0)
        return model

    def autocast(self, precision: str) -> AbstractContextManager[object]:
        """Returns the context of a forward pass."""
        return autocast(self.device, precision)

    def before_backward(self, model: Any, last: bool) -> None:
        """Prepares a backward pass; `last` says whether it is the last of its group of terms."""

    def release(self, model: Any) -> None:
        """Reshards what a forward pass has gathered, if no backward pass follows it."""

    def alone(self) -> Layout:
        """Returns the layout of what this rank computes without the others, where it can."""
        return Layout(ALONE, self.device)

    def gathered(self, local: Tensor, parameter: nn.Parameter) -> Tensor:
        """Returns a tensor of the parameter's shape, whole; every rank must call it."""
        return local

    def to_local(self, gradient: Tensor) -> Tensor:
        """Returns the local part of a parameter or its gradient, as a plain tensor."""
        return gradient

    def from_local(self, local: Tensor, parameter: nn.Parameter) -> Tensor:
        """Returns a local part as a tensor of the parameter's own kind."""
        return local

    def reduce(self, gradient: list[Tensor | None]) -> None:
        """Sums a pass's gradient over the ranks, in place and in a few large messages."""
        if self.ranks.world == 1:
            return
        requests = []
        for bucket in _buckets([entry for entry in gradient if entry is not None]):
            in_place = len(bucket) == 1 and bucket[0].is_contiguous()
            flat = bucket[0].view(-1) if in_place else torch.cat([x.reshape(-1) for x in bucket])
            requests.append((bucket, flat, in_place, dist.all_reduce(flat, async_op=True)))
        for bucket, flat, in_place, request in requests:
            assert request is not None
            request.wait()
            if not in_place:
                sums = flat.split([x.numel() for x in bucket])
                for entry, summed in zip(bucket, sums, strict=True):
                    entry.copy_(summed.view_as(entry))

    def flat_shard(self, local: Tensor) -> Tensor:
        """Returns this rank's addends of a sum over all numbers of a tensor; [numbers].

        Of a tensor that all ranks have, it is an equal share.
        """
        flat, rank, world = local.reshape(-1), self.ranks.rank, self.ranks.world
        return flat[len(flat) * rank // world : len(flat) * (rank + 1) // world]

    def total(self, numbers: Tensor) -> Tensor:
        """Returns sums over all ranks."""
        return self.ranks.all_reduce_sum(numbers)

    def to_checkpoint(self, tensor: Any) -> Any:
        """Returns a tensor as a checkpoint stores it; counters and buffers as they are."""
        return tensor

    def from_checkpoint(self, stored: Any, parameter: Tensor) -> Tensor:
        """Returns the local part of a stored tensor of the parameter's shape, of any layout."""
        return whole(stored)

    def state(self, model: Any) -> dict[str, Any]:
        """Returns a model's weights as a checkpoint stores them; only what is trained."""
        return {name: self.to_checkpoint(x) for name, x in trainable_state(model).items()}

    def restore(self, model: Any, stored: dict[str, Any]) -> None:
        """Loads what `state` of any layout returned.

        Raises:
            RuntimeError: If it is of another model, or of other parts of it.
        """
        own = trainable_state(model)
        differ = sorted(set(own) ^ set(stored))
        if differ:
            raise RuntimeError(f"other tensors are trained: {', '.join(differ[:3])}")
        for name, tensor in own.items():
            local, found = self.to_local(tensor), self.from_checkpoint(stored[name], tensor)
            if found.shape != local.shape:
                shapes = f"{[*found.shape]} instead of {[*local.shape]}"
                raise RuntimeError(f"{name} has another shape: {shapes}")
            local.copy_(found)

    def whole_state(self, model: Any, trained_only: bool = False) -> dict[str, Tensor] | None:
        """Returns a model's weights, whole, on rank 0; none stands for its own `state_dict`.

        Every rank must call it. `trained_only` leaves out what is frozen.
        """
        return None


def _buckets(entries: list[Tensor]) -> Iterator[list[Tensor]]:
    bucket: list[Tensor] = []
    for entry in entries:
        if bucket and sum(x.numel() for x in bucket) + entry.numel() > BUCKET:
            yield bucket
            bucket = []
        bucket.append(entry)
    if bucket:
        yield bucket
