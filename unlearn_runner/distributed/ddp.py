"""Data parallelism: a whole model in each process, gradients summed over them."""

from __future__ import annotations

from dataclasses import dataclass

from unlearn_runner.distributed.base import Parallel


@dataclass(frozen=True)
class DDP(Parallel):
    """Data parallelism: each rank has its share of the rows; one all-reduce per backward pass."""
