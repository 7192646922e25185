"""Distances in which the closest step to the optimizer's is sought."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from unlearn_runner.models.gradients import Gradient, GradientSpace
    from unlearn_runner.rectifiers.base import OptimizerStep

Metric = Literal["optimizer", "euclidean"]
"""The distance that AdamW measures its steps in, or the Euclidean one."""


def inverse_metric(
    metric: Metric, step: OptimizerStep, directions: Sequence[Gradient], space: GradientSpace
) -> Gradient | None:
    """Returns P, the inverse of the metric's diagonal matrix; none stands for the identity.

    AdamW's is 1 / (sqrt(v) + eps). Here the directions' mean square joins it under the root,
    P = 1 / sqrt((sqrt(v) + eps)^2 + mean of r^2): of numbers that the objective never moved, such
    as embeddings of tokens that no forget row has, v is 0, and without it they would take the whole
    correction.
    """
    if metric == "euclidean":
        return None
    return space.elementwise(_inverse, step.scale(), *directions)


def steepest(
    metric: Metric, step: OptimizerStep, direction: Gradient, space: GradientSpace
) -> Gradient:
    """Returns P r of one direction, in one sweep over memory; r itself under the Euclidean one."""
    if metric == "euclidean":
        return direction
    return space.elementwise(lambda s, r: _inverse(s, r).mul_(r), step.scale(), direction)


def _inverse(scale: Tensor, *directions: Tensor) -> Tensor:
    """Returns P of a piece of numbers, in place: each copy is a sweep over memory."""
    square = scale.square_()
    for r in directions:
        square.addcmul_(r, r, value=1 / len(directions))
    return square.rsqrt_()


def times(inverse: Gradient | None, direction: Gradient, space: GradientSpace) -> Gradient:
    """Returns P r, the steepest way along r; r itself under the Euclidean metric."""
    copy = space.copy(direction)
    return copy if inverse is None else space.multiply(copy, inverse)
