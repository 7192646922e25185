"""Parallel: how a run uses the machine; its processes, devices and threads.

Never part of a key: the numbers of a run do not depend on it beyond rounding. One file per engine;
they differ in where parameters and gradients live (`Parallel.layout`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from annotated_types import Ge, Gt, Le

from unlearn_runner.errors import ConfigError

if TYPE_CHECKING:
    import torch

    from unlearn_runner.distributed.layout import Layout
    from unlearn_runner.distributed.ranks import Ranks


@dataclass(frozen=True)
class Parallel:
    """Base class of engines."""

    starts_ranks: ClassVar[bool] = True
    """Whether a run has processes of its own; then the one that was started never loads torch."""
    shards: ClassVar[bool] = False
    """Whether a rank has only a shard of each tensor."""

    ranks: Annotated[int, Ge(1), Le(256)] | None = None
    """Processes on each node; null is one per visible GPU, and one where there is none."""
    nodes: Annotated[int, Ge(1), Le(10_000)] = 1
    """Machines that take part; the command is started once on each of them."""
    node_rank: Annotated[int, Ge(0)] | None = None
    """Which of the nodes this is, from 0; null asks SLURM."""
    master: str | None = None
    """HOST:PORT of node 0, where the nodes meet; null asks SLURM."""
    threads: Annotated[int, Ge(1), Le(4096)] | None = None
    """CPU threads of each process; null shares the cores this run may use. Bit-for-bit repetition
    on a CPU needs equal thread counts, so the number is recorded with the results."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    attention: Literal["sdpa", "eager", "flash_attention_2"] = "sdpa"
    """Attention kernel; flash_attention_2 needs its package and precision=bf16. The kernels agree
    up to rounding."""
    timeout: Annotated[float, Gt(0), Le(604_800)] = 1800.0
    """Seconds, a week at most, that a rank waits for the others in a stage; then the run ends."""

    def __post_init__(self) -> None:
        if self.master is not None and not re.fullmatch(r"[\w.:-]+:\d{1,5}", self.master):
            raise ConfigError(
                f"parallel.master={self.master} is not an address", "parallel.master=HOST:29500"
            )
        if self.node_rank is not None and self.node_rank >= self.nodes:
            raise ConfigError(
                f"parallel.node_rank={self.node_rank} is not below parallel.nodes={self.nodes}",
                f"parallel.nodes={self.node_rank + 1}",
            )

    @property
    def offloads(self) -> bool:
        """Whether weights, gradients and optimizer state are kept in host memory."""
        return False

    def layout(self, ranks: Ranks, device: torch.device) -> Layout:
        """Returns where parameters and gradients of trained models live: whole on each rank."""
        from unlearn_runner.distributed.layout import Layout

        return Layout(ranks, device)
