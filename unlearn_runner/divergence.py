"""Training that ran away: how it is noticed, what is kept of it, and how it is said.

A stage that diverged leaves its telemetry and no weights. The last line of it is the evidence: what
was not finite, and whether the step's own numbers said so or a look at where the step had led.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

    from unlearn_runner.parallel.layout import Layout

SHOWN = ("loss/", "grad_norm")
"""What is told of the last step that was finite."""


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
            "not_finite": {name: str(value) for name, value in odd(numbers).items()},
        }
        if weights:
            self.line["weights"] = dict(weights)


def odd(numbers: Mapping[str, Any]) -> dict[str, float]:
    """Returns those that are not finite."""
    return {n: v for n, v in numbers.items() if isinstance(v, float) and not math.isfinite(v)}


def lost(names: Sequence[str], weights: Iterable[Tensor], layout: Layout) -> dict[str, Any]:
    """Counts the weights that are not finite, on all ranks together; empty where all are.

    One transfer from the device and one message. Every rank must call it, and gets the same.

    Args:
        names: Of the weights.
        weights: As the layout has them.
        layout: Where they live.
    """
    import torch

    held = (layout.piece(layout.held(weight.detach())) for weight in weights)
    counts = torch.stack([(~torch.isfinite(piece)).sum() for piece in held])
    found = layout.total(counts).tolist()
    named = [name for name, count in zip(names, found, strict=True) if count]
    return {"first": named[0], "tensors": len(named), "numbers": sum(found)} if named else {}


def evidence(lines: Iterable[str]) -> dict[str, Any]:
    """Returns what a stage's telemetry says of its divergence; empty where there is none.

    Args:
        lines: Of `metrics.jsonl`, one step's last line each.
    """
    found = [json.loads(line) for line in lines]
    at = next((line for line in found if line.get("diverged")), None)
    if at is None:
        return {}
    kept = {k: at[k] for k in ("step", "found", "not_finite", "weights") if k in at}
    taken = [line for line in found if line is not at or at.get("found") == "after the step"]
    last = taken[-1] if taken else {}
    numbers = {k: v for k, v in last.items() if k.startswith(SHOWN) and v is not None}
    kept |= {"last_finite": {"step": last["step"], **numbers}} if numbers else {}
    return {"cause": cause(at), **kept}


def cause(line: Mapping[str, Any]) -> str:
    """Returns in a sentence what a diverged step's line of telemetry says."""
    step, after = line["step"], line.get("found") == "after the step"
    values = line.get("not_finite", {})
    # A gradient's norms follow from a loss.
    losses = {name: value for name, value in values.items() if name.startswith("loss/")}
    said = ", ".join(f"{name} is {value}" for name, value in (losses or values).items())
    told = []
    if weights := line.get("weights"):
        numbers, tensors = weights["numbers"], weights["tensors"]
        where = weights["first"] + (f" and {tensors - 1} more" if tensors > 1 else "")
        odd_ones = "1 weight is" if numbers == 1 else f"{numbers} weights are"
        told.append(f"{odd_ones} not finite after step {step - (not after)} ({where})")
    if said:
        told.append(f"{said} {'after' if after else 'at'} step {step}")
    return "; ".join(told) or f"a loss or the gradient is not finite at step {step}"


def last_finite(found: Mapping[str, Any]) -> str:
    """Returns what `evidence` has of the last finite step, in words; empty where it has none."""
    from unlearn_runner.results import shown

    last = found.get("last_finite")
    if not last:
        return ""
    values = ", ".join(f"{name} {shown(value)}" for name, value in last.items() if name != "step")
    return f"last finite at step {last['step']}: {values}"
