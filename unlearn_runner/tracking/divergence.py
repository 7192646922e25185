"""Divergence: its evidence in telemetry, and its cause as a sentence."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from unlearn_runner.utils.text import format_score

SHOWN = ("loss/", "grad_norm")
"""Prefixes of the numbers of the last finite step that are kept."""


def evidence(lines: Iterable[str]) -> dict[str, Any]:
    """Returns what lines of `metrics.jsonl`, a step's last each, say of divergence, if anything."""
    parsed = [json.loads(line) for line in lines]
    at = next((line for line in parsed if line.get("diverged")), None)
    if at is None:
        return {}
    kept = {k: at[k] for k in ("step", "found", "not_finite", "weights") if k in at}
    taken = [line for line in parsed if line is not at or at.get("found") == "after the step"]
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
    nonfinite = ", ".join(f"{name} is {value}" for name, value in (losses or values).items())
    parts = []
    if weights := line.get("weights"):
        numbers, tensors = weights["numbers"], weights["tensors"]
        where = weights["first"] + (f" and {tensors - 1} more" if tensors > 1 else "")
        count = "1 weight is" if numbers == 1 else f"{numbers} weights are"
        parts.append(f"{count} not finite after step {step - (not after)} ({where})")
    if nonfinite:
        parts.append(f"{nonfinite} {'after' if after else 'at'} step {step}")
    return "; ".join(parts) or f"a loss or the gradient is not finite at step {step}"


def last_finite(divergence: Mapping[str, Any]) -> str:
    """Returns what `evidence` has of the last finite step, in words; empty where it has none."""
    last = divergence.get("last_finite")
    if not last:
        return ""
    values = ", ".join(
        f"{name} {format_score(value)}" for name, value in last.items() if name != "step"
    )
    return f"last finite at step {last['step']}: {values}"
