"""Fisher information of a model's linear maps: sums of squared gradients, and the row weights."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from unlearn_runner.data.encode import Encoded
from unlearn_runner.distributed.layout import Layout
from unlearn_runner.methods.base import Term
from unlearn_runner.methods.losses import NLL
from unlearn_runner.models.adapters.importance import Importance
from unlearn_runner.models.adapters.targets import chosen, linear_modules
from unlearn_runner.models.forward import Autocast, Models
from unlearn_runner.rectifiers.base import Group
from unlearn_runner.training.batches import Sampler, StepRows
from unlearn_runner.training.engine import Engine
from unlearn_runner.training.recipe import Recipe

GROUPS = tuple(Group(side, (Term(side, side, NLL()),)) for side in ("forget", "retain"))
Pairs = list[dict[str, list[Encoded]]]
Facts = dict[str, dict[str, float]]


def batches(importance: Importance, forget: list[Encoded], retain: list[Encoded]) -> Pairs:
    """Returns the batches of an estimate: each some forget rows and as many retain rows.

    One epoch over the forget rows in a drawn order, with one drawn retain row for each, as the
    released code has it. For `per_token` a row becomes one row per scored token.
    """
    sampler = Sampler(importance.seed, len(forget), len(forget), len(retain))
    visits = sampler.step(0)
    rows = {
        "forget": [forget[row] for _, row in visits],
        "retain": [retain[sampler.retain_partner(*visit)] for visit in visits],
    }
    if importance.estimator == "per_token":
        rows = {
            side: [one for row in found for one in _tokens(row)] for side, found in rows.items()
        }
    size, longest = importance.rows, max(map(len, rows.values()))
    return [
        {side: found[start : start + size] for side, found in rows.items()}
        for start in range(0, longest, size)
    ]


def _tokens(row: Encoded) -> list[Encoded]:
    """Returns a row once for each of its scored tokens, which alone is scored there."""
    places = range(row.prompt_length, len(row.ids))
    return [replace(row, ids=row.ids[: i + 1], prompt_length=i) for i in places]


def only_measured(model: Any, importance: Importance, part: int) -> None:
    """Leaves a part's linear maps asking for gradients, of `importance.passes` parts in all."""
    names = chosen(linear_modules(model), importance.targets, importance.regex, importance.layers)
    share = -(-len(names) // importance.passes)
    model.requires_grad_(False)
    for name in names[part * share : (part + 1) * share]:
        model.get_submodule(name).weight.requires_grad_()


@dataclass
class Estimate:
    """Fisher information of the parameters of a model that ask for gradients.

    Of a whole model each rank takes batches of its own; in shards, all ranks compute each batch
    together. Sums are of the parameters' own number format, which is float32 at least.

    Args:
        model: In evaluation mode, as the layout has it.
        importance: What is estimated.
        layout: Where the model lives.
        micro_batch: Rows per forward pass.
        pad: Token id that fills rows.
        autocast: Opens the arithmetic of a forward pass.
    """

    model: Any
    importance: Importance
    layout: Layout
    micro_batch: int | None
    pad: int
    autocast: Autocast = nullcontext

    def __post_init__(self) -> None:
        rows = self.importance.rows
        recipe = Recipe(batch_size=rows, micro_batch=min(self.micro_batch or rows, rows))
        models = Models(self.model, None, self.autocast)
        terms = tuple(group.terms[0] for group in GROUPS)
        alone = self.layout.alone()
        self.engine = Engine(models, terms, recipe, num_rows=rows, pad=self.pad, layout=alone)

    @property
    def apart(self) -> bool:
        """Whether each rank takes batches of its own."""
        return self.engine.layout.ranks.world == 1

    def row_weights(
        self, pairs: Pairs, tick: Callable[[], object] = lambda: None
    ) -> tuple[dict[str, Tensor], Facts]:
        """Returns row weights and facts by module, on every rank alike; in host memory.

        `tick` is called after each batch of this rank.
        """
        from transformers.pytorch_utils import Conv1D

        space, weights, facts = self.engine.space, {}, {}
        for name, parameter, *pair in zip(
            space.names, space.parameters, *self.sums(pairs, tick), strict=True
        ):
            module = name.removesuffix(".weight")
            whole = [self.layout.gathered(local, parameter) for local in pair]
            if isinstance(self.model.get_submodule(module), Conv1D):
                whole = [x.T for x in whole]
            found, facts[module] = self.importance.row_weights(*whole)
            weights[module] = found.float().cpu()
        return weights, facts

    def sums(
        self, pairs: Pairs, tick: Callable[[], object] = lambda: None
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Returns the Fisher information of forget and of retain rows, as the layout has it."""
        weights = self.engine.space.parameters
        found = [
            [torch.zeros_like(self.layout.to_local(p.detach())) for p in weights] for _ in GROUPS
        ]
        for pair in self.layout.ranks.shard(pairs) if self.apart else pairs:
            for group, into in zip(GROUPS, found, strict=True):
                self._add(group, pair[group.name], into)
            tick()
        for group, into in zip(GROUPS, found, strict=True):
            if self.apart:
                self.layout.reduce([*into])
            units = max(1, sum(self.importance.unit(_labels(p[group.name])) for p in pairs))
            for entry in into:
                entry.div_(units)
        return found[0], found[1]

    def _add(self, group: Group, rows: list[Encoded], into: list[Tensor]) -> None:
        if not rows:  # one side has fewer tokens than the other
            return
        gradients, _ = self.engine.gradients(StepRows({group.name: rows}), [group])
        weight = self.importance.weight(_labels(rows))
        for entry, gradient in zip(into, gradients[group.name], strict=True):
            if gradient is not None:
                entry.addcmul_(gradient, gradient, value=weight)


def _labels(rows: list[Encoded]) -> int:
    return sum(row.num_labels for row in rows)
