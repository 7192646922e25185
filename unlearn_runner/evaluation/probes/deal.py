"""How an evaluation's batches are dealt to ranks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor

from unlearn_runner.distributed.ranks import Ranks

Dealt = tuple[Sequence[int], bool]
"""Rows of one batch, and whether it counts here."""


def deal(model: Any, order: Sequence[int], batch_size: int, ranks: Ranks) -> list[Dealt]:
    """Returns the batches of this rank.

    Where the model is in shards the ranks compute in step: one that has no batch left computes one
    of another's, which does not count.
    """
    batches = [order[i : i + batch_size] for i in range(0, len(order), batch_size)]
    mine: list[Dealt] = [(batch, True) for batch in ranks.shard(batches)]
    if in_step(model) and batches:
        mine += [(batches[0], False)] * (-(-len(batches) // ranks.world) - len(mine))
    return mine


def in_step(model: Any) -> bool:
    """Returns whether all ranks must call the model together."""
    return isinstance(model, FSDPModule)


def device_of(model: Any) -> torch.device:
    """Returns where a model wants its input; offloaded shards are computed on the accelerator."""
    parameter = next(model.parameters())
    if isinstance(parameter, DTensor):
        kind = parameter.device_mesh.device_type
        return (
            torch.device(kind, torch.cuda.current_device())
            if kind == "cuda"
            else torch.device(kind)
        )
    return parameter.device
