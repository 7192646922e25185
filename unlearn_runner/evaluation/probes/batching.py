"""Batches of a probe: sorted by length, shared among the ranks, gathered on rank 0."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

import torch
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor

from unlearn_runner.distributed.ranks import Ranks
from unlearn_runner.utils.progress import progress

T = TypeVar("T")


def map_batches(
    model: Any,
    lengths: Sequence[int],
    batch_size: int,
    title: str,
    ranks: Ranks,
    compute: Callable[[Sequence[int]], Iterable[T]],
) -> list[T]:
    """Returns `compute` of every row, in row order, on rank 0; an empty list elsewhere.

    Batches go to the ranks whole, so one rank or many compute the same batches. Where the model is
    sharded the ranks compute in step: one with no batch left computes a filler, which is discarded.

    Args:
        model: What `compute` calls, in eval mode.
        lengths: Tokens of each row, by which rows are sorted.
        batch_size: Rows per call.
        title: Name of the progress bar.
        ranks: Sharers of the work; every rank must call this.
        compute: From the row indices of a batch to their results, in the same order.
    """
    order = sorted(range(len(lengths)), key=lambda i: lengths[i])
    batches = [order[i : i + batch_size] for i in range(0, len(order), batch_size)]
    mine = list(ranks.shard(batches))
    num_fillers = -(-len(batches) // ranks.world) - len(mine) if is_sharded(model) else 0
    found: dict[int, T] = {}
    with progress(title, sum(map(len, mine))) as tick:
        for batch in mine:
            found |= zip(batch, compute(batch), strict=True)
            tick(len(batch))
        for _ in range(num_fillers):
            list(compute(batches[0]))
    everything = {i: result for part in ranks.gather(found) for i, result in part.items()}
    return [everything[i] for i in range(len(lengths))] if ranks.main else []


def is_sharded(model: Any) -> bool:
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
