"""Gradient probe: norms of the gradient of every row's loss, tensor by tensor.

Rows go one by one, as each has a gradient of its own. A tensor's gradient is let go as soon as its
norms are taken, so there is never a second copy of the model.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from unlearn_runner.data.encode import Encoded, collate
from unlearn_runner.distributed.ranks import ALONE, Ranks
from unlearn_runner.evaluation.probes.batching import device_of, is_sharded, map_batches
from unlearn_runner.evaluation.probes.journal import Journal
from unlearn_runner.evaluation.schema import NORMS
from unlearn_runner.models.forward import scored_logits
from unlearn_runner.models.gradients import CACHED, CHUNK

Norms = dict[str, list[float]]
"""By tensor of the model, its `schema.NORMS`, in their order."""


def gradient_norms(
    model: Any,
    encoded: Sequence[Encoded],
    pad: int,
    batch_size: int,
    title: str,
    ranks: Ranks = ALONE,
    journal: Journal[Norms] | None = None,
) -> list[Norms]:
    """Returns norms of the gradient of every row's loss, in their order; see `map_batches`.

    The loss is the mean NLL of the scored tokens but the last, as open-unlearning's attack has it.
    A row with none has NaN, under the name of no tensor. Deviations from that code: the model stays
    in eval mode, so nothing drops out, and norms are summed in float64.

    An adapter's own tensors are left out, and the weights that it is added to are measured: that is
    the merged model's gradient, but for DoRA, whose merged weights are rescaled.

    Args:
        model: A causal LM that is whole, in eval mode.
        encoded: Rows in tokens.
        pad: Token id that fills rows.
        batch_size: Rows that are kept together; they do not change a number.
        title: Name of the progress bar.
        ranks: Sharers of the work; every rank must call this.
        journal: As for `map_batches`.
    """
    assert not is_sharded(model), "ranks would add up the gradients of different rows"
    device = device_of(model)

    def compute(batch: Sequence[int]) -> Iterator[Norms]:
        for row in (encoded[i] for i in batch):
            if row.num_labels < 2:
                yield {"": [float("nan")] * len(NORMS)}
                continue
            found.clear()
            with torch.enable_grad():
                one = collate([replace(row, ids=row.ids[:-1])], pad, device)
                cross_entropy(scored_logits(model, one), one.labels).backward()
            norms = torch.stack(list(found.values())).tolist()
            yield dict(zip(found, norms, strict=True))

    lengths = [len(row.ids) for row in encoded]
    with _watched(model) as found:
        return map_batches(model, lengths, batch_size, title, ranks, compute, journal)


def _norms(gradient: Tensor) -> Tensor:
    """Returns the norms of a tensor, summed in float64, which only a piece at a time is in; [3]."""
    size, found = CACHED if gradient.device.type == "cpu" else CHUNK, []
    for piece in gradient.reshape(-1).split(size):
        numbers = piece.double()
        absolute = numbers.abs()
        found.append(torch.stack((absolute.sum(), torch.dot(numbers, numbers), absolute.max())))
    sums = torch.stack(found)
    return torch.stack((sums[:, 0].sum(), sums[:, 1].sum().sqrt(), sums[:, 2].max()))


@contextmanager
def _watched(model: nn.Module) -> Iterator[dict[str, Tensor]]:
    """Yields norms by tensor, filled by each backward pass through the model."""
    found: dict[str, Tensor] = {}

    def take(name: str, parameter: Tensor) -> None:
        gradient, parameter.grad = parameter.grad, None
        assert gradient is not None
        found[name] = _norms(gradient)

    before = {parameter: parameter.requires_grad for parameter in model.parameters()}
    measured = {
        name.replace(".base_layer.", "."): parameter
        for name, parameter in model.named_parameters()
        if parameter.is_floating_point() and ".lora_" not in name
    }
    model.requires_grad_(False)
    hooks = []
    for name, parameter in measured.items():
        hook, parameter.grad = partial(take, name), None
        hooks.append(parameter.requires_grad_().register_post_accumulate_grad_hook(hook))
    try:
        yield found
    finally:
        for hook in hooks:
            hook.remove()
        for parameter, trained in before.items():
            parameter.requires_grad_(trained)
