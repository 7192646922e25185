"""Patching probe: how much of a row's fact the target still says with another model's states.

The states of the probed model are written into the target behind one block, where the fact's tokens
are predicted, and the target computes on from there. What it then says less well is what the probed
model's states lack at that depth.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from unlearn_runner.data.encode import Batch, Encoded, collate
from unlearn_runner.distributed.ranks import ALONE, Ranks
from unlearn_runner.evaluation.probes.batching import device_of, is_sharded, map_batches
from unlearn_runner.evaluation.probes.journal import Journal
from unlearn_runner.models.forward import blocks, scored_logits


@torch.no_grad()
def patched_logprobs(
    model: Any,
    target: Any,
    encoded: Sequence[Encoded],
    pad: int,
    batch_size: int,
    title: str,
    ranks: Ranks = ALONE,
    journal: Journal[list[float]] | None = None,
) -> list[list[float]]:
    """Returns per row a mean log-probability of its scored tokens; see `map_batches`.

    The target's own first, then that of the target with the model's states behind each of its
    blocks. NaN of a row without scored tokens. It takes a pass of the model, and of the target one
    more than it has blocks.

    Args:
        model: A causal LM that is whole, in eval mode.
        target: Another one, of the same shape.
        encoded: Rows in tokens; those that are scored are the fact.
        pad: Token id that fills rows.
        batch_size: Rows per pass.
        title: Name of the progress bar.
        ranks: Sharers of the work; every rank must call this.
        journal: As for `map_batches`.
    """
    assert not is_sharded(model), "its blocks are no modules to be hooked one by one"
    device, stack = device_of(model), blocks(target)

    def compute(batch: Sequence[int]) -> Iterator[list[float]]:
        one = collate([encoded[i] for i in batch], pad, device)
        found = [_means(target, one)]
        for block, states in zip(stack, _states(model, one), strict=True):
            hook = block.register_forward_hook(_writer(one, states))
            try:
                found.append(_means(target, one))
            finally:
                hook.remove()
        yield from torch.stack(found, dim=1).tolist()

    lengths = [len(row.ids) for row in encoded]
    return map_batches(model, lengths, batch_size, title, ranks, compute, journal)


def _states(model: Any, batch: Batch) -> list[Tensor]:
    """Returns the states behind each block that predict the scored tokens; [tokens, dimension]."""
    found: list[Tensor] = []

    def read(_: Any, __: Any, output: Any) -> None:
        found.append(_hidden(output)[batch.row, batch.position])

    with ExitStack() as hooks:
        for block in blocks(model):
            hooks.callback(block.register_forward_hook(read).remove)
        scored_logits(model, batch)
    return found


def _writer(batch: Batch, states: Tensor) -> Any:
    """Returns a hook that puts states in the place of a block's output."""

    def write(_: Any, __: Any, output: Any) -> Any:
        patched = _hidden(output).clone()
        patched[batch.row, batch.position] = states.to(patched.dtype)
        return (patched, *output[1:]) if isinstance(output, tuple) else patched

    return write


def _hidden(output: Any) -> Tensor:
    return output[0] if isinstance(output, tuple) else output


def _means(model: Any, batch: Batch) -> Tensor:
    """Returns the mean log-probability of each row's scored tokens; [rows]."""
    logprobs = -cross_entropy(scored_logits(model, batch), batch.labels, reduction="none")
    return batch.rows_sum(logprobs) / batch.rows_sum(torch.ones_like(logprobs))
