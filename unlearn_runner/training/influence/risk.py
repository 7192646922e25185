"""Risk of a language model over rows of answers, as parts; requests and what they change in it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from unlearn_runner.data.encode import Batch, Encoded
from unlearn_runner.methods.losses.base import token_nll
from unlearn_runner.models.forward import Models
from unlearn_runner.models.gradients import Gradient, GradientSpace
from unlearn_runner.training.batches import StepRows
from unlearn_runner.training.influence import products
from unlearn_runner.training.influence.products import Part, Parts

Reduction = Literal["token", "row"]
Product = Literal["double", "difference", "gauss_newton"]
SAMPLE, BATCH = 8, 9
"""Streams of draws of their own; see `training.batches`."""


@dataclass(frozen=True)
class MicroBatchRisk:
    """A micro-batch's share of a risk."""

    models: Models
    batch: Batch
    weights: Tensor
    """Of each scored token's NLL; [scored tokens]."""

    def loss(self) -> Tensor:
        """Returns the weighted sum of its tokens' NLL."""
        return token_nll(self.models, self.batch) @ self.weights

    def logits(self) -> tuple[Tensor, Tensor]:
        """Returns its logits and weights."""
        return self.models.logits(self.batch), self.weights


@dataclass
class Risk:
    """Mean NLL of answers: over all tokens, as our fine-tunes minimise it, or of rows' own means.

    Args:
        models: The model at which derivatives are taken, in evaluation mode: no dropout.
        space: Its trained parameters.
        reduction: What it is a mean over.
        micro_batch: Rows per forward pass.
        pad: Token id that fills rows.
    """

    models: Models
    space: GradientSpace
    reduction: Reduction
    micro_batch: int
    pad: int
    l2: float = 0.0
    """Of the fine-tune's recipe: l2 / 2 |weights|^2 is a part of what its target minimises."""
    passed: dict[str, int] = field(default_factory=lambda: {"gradients": 0, "products": 0})
    """Rows whose gradients, or products, were taken."""

    def size(self, rows: Sequence[Encoded]) -> int:
        """Returns what the mean over rows divides by."""
        return sum(row.num_labels for row in rows) if self.reduction == "token" else len(rows)

    def parts(self, rows: Sequence[Encoded], size: float) -> Parts:
        """Returns the parts of the rows' sum divided by `size`, this rank's share of them."""

        def micro_batches() -> Iterator[Part]:
            layout, trained = self.space.layout, self.models.trained
            step = StepRows({"rows": list(rows)})
            for micro in step.micro(
                "rows", self.micro_batch, self.pad, layout.device, layout.ranks
            ):
                layout.before_backward(trained, micro.last)
                scale = 0.0 if micro.is_filler else 1 / size
                yield MicroBatchRisk(self.models, micro.batch, self._weights(micro.batch, scale))

        return micro_batches

    def _weights(self, batch: Batch, scale: float) -> Tensor:
        ones = torch.ones_like(batch.labels, dtype=self.space.parameters[0].dtype)
        if self.reduction == "row":
            ones = ones / batch.rows_sum(ones)[batch.row]
        return ones * scale

    @torch.no_grad()
    def value(self, rows: Sequence[Encoded]) -> float:
        """Returns the mean, summed over the ranks in float64."""
        parts = [part.loss().double() for part in self.parts(rows, self.size(rows))()]
        return float(self.space.layout.ranks.all_reduce_sum(torch.stack(parts).sum()))

    def gradient(self, rows: Sequence[Encoded], size: float) -> Gradient:
        """Returns the gradient of the rows' sum divided by `size`."""
        if not rows:
            return products.zeros(self.space)
        self.passed["gradients"] += len(rows)
        return products.gradient(self.space, self.parts(rows, size))

    def product(self, kind: Product, rows: Sequence[Encoded], size: float, v: Gradient) -> Gradient:
        """Returns the product of the second derivative of the same with a vector."""
        self.passed["products"] += len(rows)
        return getattr(products, kind)(self.space, self.parts(rows, size), v)


@dataclass(frozen=True)
class Request:
    """Rows that the model was trained on, and what is to become of some of them."""

    full: Sequence[Encoded]
    removed: Sequence[Encoded]
    """As they were, whatever the task."""
    replacements: Sequence[Encoded] = ()
    """What takes their place, with another query or another answer; none where they just go."""

    def right_hand_side(self, risk: Risk) -> Gradient:
        """Returns b = (sum of the old rows' gradients - that of the new ones') / n.

        H delta = b is then the change of the minimiser to first order, with H of the rows trained
        on. Source: LLMEraser (2412.00383), its signs as derived here: one of the paper's equations,
        and its code for deletions, have the opposite one.
        """
        size = risk.size(self.full)
        b = risk.gradient(self.removed, size)
        return risk.space.add(b, risk.gradient(self.replacements, size), -1.0)

    def after(self) -> list[Encoded]:
        """Returns the rows with the request carried out."""
        left = list(self.full)
        for row in self.removed:
            left.remove(row)
        return [*left, *self.replacements]


@dataclass(frozen=True)
class Hessian:
    """Second derivative of a risk over rows, by its products."""

    risk: Risk
    kind: Product
    rows: Sequence[Encoded]
    weight: float = 1.0
    """Of the rows' mean: with the rows that remain after a request it is their share, so that the
    solution is a Newton step on their risk."""
    seed: int = 0

    def product(self, v: Gradient) -> Gradient:
        """Returns the product with all rows."""
        return self._product(self.rows, self.risk.size(self.rows), v)

    def _product(self, rows: Sequence[Encoded], size: float, v: Gradient) -> Gradient:
        found = self.risk.product(self.kind, rows, size / self.weight, v)
        return self.risk.space.add(found, v, self.risk.l2)

    def minibatch(self, v: Gradient, step: int, batch: int) -> Gradient:
        """Returns the product with some rows, drawn for a step; right in the mean over draws."""
        batch = min(batch, len(self.rows))
        drawn = np.random.default_rng([self.seed, BATCH, step])
        chosen = [self.rows[i] for i in drawn.choice(len(self.rows), batch, replace=False)]
        return self._product(chosen, self.risk.size(self.rows) * batch / len(self.rows), v)


def sampled(
    rows: Sequence[Encoded], size: int | None, held: int, seed: int
) -> tuple[list[Encoded], list[Encoded]]:
    """Returns a fixed sample of rows, and another to measure on.

    The two are disjoint as far as there are rows; where the sample is all of them, the other one is
    a part of it.
    """
    order = [rows[i] for i in np.random.default_rng([seed, SAMPLE]).permutation(len(rows))]
    taken = len(rows) if size is None else min(size, len(rows))
    rest = order[taken:] or order
    return order[:taken], rest[:held]
