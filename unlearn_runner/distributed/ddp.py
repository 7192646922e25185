"""Data parallelism: a whole model in each process, gradients summed over them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from unlearn_runner.distributed.base import Parallel

if TYPE_CHECKING:
    import torch

    from unlearn_runner.distributed.layout import Layout
    from unlearn_runner.distributed.ranks import Ranks


@dataclass(frozen=True)
class DDP(Parallel):
    """Data parallelism: each rank has its share of the rows; one all-reduce per backward pass."""

    def layout(self, ranks: Ranks, device: torch.device) -> Layout:
        """Returns the layout of replicas."""
        from unlearn_runner.distributed.replicas import Replicas

        return Replicas(ranks, device)
