"""Sharding of weights, gradients and optimizer state by torch's FSDP2."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from unlearn_runner.distributed.base import Parallel

if TYPE_CHECKING:
    import torch

    from unlearn_runner.distributed.layout import Layout
    from unlearn_runner.distributed.ranks import Ranks


@dataclass(frozen=True)
class FSDP2(Parallel):
    """Sharding: each rank has a shard of every tensor, and gathers a layer to compute with it."""

    shards: ClassVar[bool] = True

    reshard: bool = True
    """Free a layer's gathered weights after its forward pass and gather them again for the backward
    pass; false trades memory for half of the communication."""
    reduce: Literal["each", "last"] = "each"
    """Gradients are reduced after each micro-batch, so that no rank ever has a whole one; `last`
    keeps a whole one and reduces it after the last micro-batch."""
    offload: bool = False
    """Keep weights, gradients and optimizer state in host memory, and step there. On a processor,
    where they are there anyway, it changes nothing."""

    @property
    def offloads(self) -> bool:
        """As `offload` says."""
        return self.offload

    def layout(self, ranks: Ranks, device: torch.device) -> Layout:
        """Returns the layout of shards."""
        from unlearn_runner.distributed.shards import Shards

        return Shards(ranks, device, self.reshard, self.reduce, self.offload)
