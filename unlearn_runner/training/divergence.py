"""Divergence: detection of losses, gradients and weights that are not finite, and its record.

A stage that diverged leaves its telemetry and no weights. The last line of it is the evidence: what
was not finite, and whether that was seen in the step's own numbers or in the model after the step.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn

    from unlearn_runner.distributed.layout import Layout


class Diverged(Exception):
    """Raised when a loss, the gradient, or a weight is not finite.

    Args:
        numbers: The step's losses and gradient norms, by their names in telemetry.
        weights: As `count_nonfinite` returns them.
        after: Whether it was found in the model after the step, whose own numbers were finite.
            Otherwise the step was not taken.
        facts: The step's telemetry so far.
    """

    def __init__(
        self,
        numbers: Mapping[str, Any],
        weights: Mapping[str, Any],
        after: bool = False,
        facts: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__("training diverged")
        self.line: dict[str, Any] = {
            **(facts or {}),
            "diverged": True,
            "found": "after the step" if after else "in the step",
            # JSON has no word for them.
            "not_finite": {name: str(value) for name, value in nonfinite(numbers).items()},
        }
        if weights:
            self.line["weights"] = dict(weights)


def nonfinite(numbers: Mapping[str, Any]) -> dict[str, float]:
    """Returns the numbers that are not finite."""
    return {n: v for n, v in numbers.items() if isinstance(v, float) and not math.isfinite(v)}


def count_nonfinite(model: nn.Module, layout: Layout) -> dict[str, Any]:
    """Counts the trained weights that are not finite, on all ranks together; empty where all are.

    One transfer from the device and one message. Every rank must call it, and gets the same.
    """
    import torch

    weights = {name: p.detach() for name, p in model.named_parameters() if p.requires_grad}
    local = (layout.flat_shard(layout.to_local(weight)) for weight in weights.values())
    counts = torch.stack([(~torch.isfinite(shard)).sum() for shard in local])
    totals = layout.total(counts).tolist()
    named = [name for name, count in zip(weights, totals, strict=True) if count]
    return {"first": named[0], "tensors": len(named), "numbers": sum(totals)} if named else {}
