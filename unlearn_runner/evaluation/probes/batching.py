"""Batches of a probe: sorted by length, shared among the ranks, gathered on rank 0."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import wraps
from typing import Any, ParamSpec, TypeVar

import torch
from torch import Tensor
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor

from unlearn_runner.distributed.ranks import Ranks
from unlearn_runner.evaluation.probes.journal import Journal
from unlearn_runner.utils.progress import progress

P = ParamSpec("P")
T = TypeVar("T")


TOKENS = 256
"""Tokens, padding included, for each row of a batch: where rows are longer it has fewer of them."""


def map_batches(
    model: Any,
    lengths: Sequence[int],
    batch_size: int,
    title: str,
    ranks: Ranks,
    compute: Callable[[Sequence[int]], Iterable[T]],
    journal: Journal[T] | None = None,
    rows: Sequence[int] | None = None,
    tokens: int = TOKENS,
) -> list[T]:
    """Returns `compute` of every item, in their order, on rank 0; an empty list elsewhere.

    Batches go to the ranks whole, so one rank or many compute the same batches. Where the model is
    sharded the ranks compute in step: one with no batch left computes a filler, which is discarded.

    Args:
        model: What `compute` calls, in eval mode.
        lengths: Tokens of each item, by which they are sorted.
        batch_size: Rows per call; fewer where they are longer than `tokens`.
        title: Name of the progress bar.
        ranks: Sharers of the work; every rank must call this.
        compute: From the indices of a batch to their results, in the same order.
        journal: Keeps what was computed; what an earlier attempt left there is not computed again.
        rows: Number of rows that each item stands for; one by default.
        tokens: What a batch has for each of its rows at most, padding included.
    """
    rows = rows or [1] * len(lengths)
    found = {} if journal is None or not ranks.main else journal.read()
    done = ranks.broadcast(set(found))
    planned = ([i for i in b if i not in done] for b in _batches(lengths, rows, batch_size, tokens))
    batches = [batch for batch in planned if batch]
    mine = list(ranks.shard(batches))
    num_fillers = -(-len(batches) // ranks.world) - len(mine) if is_sharded(model) else 0
    with progress(title, sum(rows[i] for batch in mine for i in batch)) as tick:
        for batch in mine:
            results = dict(zip(batch, compute(batch), strict=True))
            if journal is not None:
                journal.write(results)
            found |= results
            tick(sum(rows[i] for i in batch))
        for _ in range(num_fillers):
            list(compute(batches[0]))
    everything = {i: result for part in ranks.gather(found) for i, result in part.items()}
    return [everything[i] for i in range(len(lengths))] if ranks.main else []


def _batches(
    lengths: Sequence[int], rows: Sequence[int], size: int, max_tokens: int
) -> list[list[int]]:
    """Returns the indices of each batch, the shortest items first."""
    found: list[list[int]] = []
    filled = 0
    for i in sorted(range(len(lengths)), key=lambda i: lengths[i]):
        tokens = (len(found[-1]) + 1) * lengths[i] if found else 0
        filled += rows[i]
        if not found or filled > size or tokens > size * max_tokens:
            found.append([])
            filled = rows[i]
        found[-1].append(i)
    return found


@contextmanager
def narrowed(model: Any, choose: Callable[[Tensor], Tensor]) -> Iterator[None]:
    """Lets a model compute logits only of the states that `choose` picks of all."""
    hook = model.get_output_embeddings().register_forward_pre_hook(
        lambda _, inputs: (choose(inputs[0]), *inputs[1:])
    )
    try:
        yield
    finally:
        hook.remove()


def likeliest(logits: Tensor) -> Tensor:
    """Returns the most likely token of each row; [rows, vocabulary] -> [rows]."""
    if logits.device.type != "cpu":
        return logits.argmax(-1)
    numbers = logits.detach() if logits.dtype == torch.float64 else logits.detach().float()
    return torch.from_numpy(numbers.numpy().argmax(-1))  # numpy's takes a tenth of the time


def without_gradients(probe: Callable[P, T]) -> Callable[P, T]:
    """Lets a function of a model, its first argument, compute without what gradients need.

    Of a sharded model, whose weights are gathered in a pass, that is less.
    """

    @wraps(probe)
    def computed(*args: P.args, **kwargs: P.kwargs) -> T:
        with torch.no_grad() if is_sharded(args[0]) else torch.inference_mode():
            return probe(*args, **kwargs)

    return computed


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
