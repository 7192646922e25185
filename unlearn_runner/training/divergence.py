"""Training that ran away: how it is noticed, what is kept of it, and how it is said.

A stage that diverged leaves its telemetry and no weights. The last line of it is the evidence: what
was not finite, and whether the step's own numbers said so or a look at where the step had led.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

    from unlearn_runner.distributed.layout import Layout


class Diverged(Exception):
    """A loss, the gradient, or a weight is not finite.

    Args:
        numbers: The step's losses and gradient norms, by their names in telemetry.
        weights: As `lost` counts them.
        after: The step's own numbers are finite: what is not was found by looking at the model that
            the step led to. Otherwise the step was not taken.
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
    """Returns those that are not finite."""
    return {n: v for n, v in numbers.items() if isinstance(v, float) and not math.isfinite(v)}


def count_nonfinite(
    names: Sequence[str], weights: Iterable[Tensor], layout: Layout
) -> dict[str, Any]:
    """Counts the weights that are not finite, on all ranks together; empty where all are.

    One transfer from the device and one message. Every rank must call it, and gets the same.

    Args:
        names: Of the weights.
        weights: As the layout has them.
        layout: Where they live.
    """
    import torch

    held = (layout.flat_shard(layout.to_local(weight.detach())) for weight in weights)
    counts = torch.stack([(~torch.isfinite(piece)).sum() for piece in held])
    found = layout.total(counts).tolist()
    named = [name for name, count in zip(names, found, strict=True) if count]
    return {"first": named[0], "tensors": len(named), "numbers": sum(found)} if named else {}
