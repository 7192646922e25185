"""Ranks: collective operations among the processes of one run.

Tensors of a training step travel in the default process group, all other values of a stage in the
control group (gloo, on any machine); both time out when a rank hangs. Broadcasts between stages
have a group of their own, where waiting for hours is no fault: rank 0 may be waiting for an
artifact that another run computes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch.distributed as dist
from torch import Tensor

T = TypeVar("T")


@dataclass(frozen=True)
class Ranks:
    """Rank of this process, and collective operations with the others."""

    rank: int = 0
    world: int = 1
    control: Any = None
    """Process group of everything in a stage but training steps; none in a world of one."""
    unbounded: Any = None
    """Process group of `broadcast_unbounded`; none in a world of one."""

    @property
    def main(self) -> bool:
        """Whether this process writes what is written once."""
        return self.rank == 0

    def shard(self, items: Sequence[T]) -> Sequence[T]:
        """Returns this rank's share: every world-th item, from its own on."""
        return items[self.rank :: self.world]

    def all_reduce_sum(self, numbers: Tensor) -> Tensor:
        """Returns the sum over ranks of a small tensor, the same bits on each; overwrites it."""
        if self.world > 1:
            # NCCL sums nothing that lies in host memory (offloaded gradients do).
            nccl = dist.get_backend() == "nccl"
            dist.all_reduce(numbers, group=self.control if nccl and not numbers.is_cuda else None)
        return numbers

    def broadcast(self, value: T) -> T:
        """Returns rank 0's value, on every rank."""
        return self._broadcast(value, self.control)

    def broadcast_unbounded(self, value: T) -> T:
        """Returns rank 0's value, on every rank, however long it takes rank 0 to have one."""
        return self._broadcast(value, self.unbounded)

    def _broadcast(self, value: T, group: Any) -> T:
        if self.world == 1:
            return value
        box = [value]
        dist.broadcast_object_list(box, src=0, group=group)
        return box[0]

    def all_gather(self, value: T) -> list[T]:
        """Returns every rank's value, on every rank."""
        if self.world == 1:
            return [value]
        box: list[Any] = [None] * self.world
        dist.all_gather_object(box, value, group=self.control)
        return box

    def gather(self, value: T) -> list[T]:
        """Returns every rank's value on rank 0, and nothing elsewhere."""
        if self.world == 1:
            return [value]
        box: list[Any] | None = [None] * self.world if self.main else None
        dist.gather_object(value, box, dst=0, group=self.control)
        return box or []

    def barrier(self) -> None:
        """Waits until every rank is here."""
        if self.world > 1:
            dist.barrier(group=self.control)


ALONE = Ranks()
