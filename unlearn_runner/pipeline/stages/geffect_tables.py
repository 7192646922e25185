"""Tables of G-effects: sums over layer groups and steps, and the files that hold them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from unlearn_runner.models.layer_groups import GROUPS
from unlearn_runner.utils.files import finite, write_json

STEM = "geffect"
SUMMARY, TENSORS, SAMPLES = f"{STEM}.json", f"{STEM}.parquet", f"{STEM}.samples.parquet"
FACTS = ("risk_u", "risk_r", "rows_passed")
"""Of each model, beside its effects."""
Found = dict[str, Any]
"""What was measured at one model: see `MeasureGEffect`."""


def running_sums(found: Sequence[Found], rates: Mapping[int, float]) -> list[Found]:
    """Returns the measurements with `sum_u` and `sum_r`: what small plain steps would have done.

    The sum -lr_t e_t over all steps before, each with its own learning rate; a model that was
    measured stands for the steps up to the next one.

    Args:
        found: In order of their steps, the first of step 0.
        rates: Learning rate by optimizer step, from 1 on.
    """
    sums, summed = {"sum_u": 0.0, "sum_r": 0.0}, []
    for here, following in zip(found, [*found[1:], None], strict=True):
        effect = mean_effect(here)
        summed.append({**here, **effect, **sums})
        if following is not None:
            between = range(here["step"] + 1, following["step"] + 1)
            lr = sum(rates.get(step, 0.0) for step in between)
            sums = {name: sums[name] - lr * effect[f"e{name[3:]}"] for name in sums}
    return summed


def mean_effect(found: Found) -> dict[str, float]:
    """Returns e_u and e_r of one model: of `ema` the mean of what its batches reported."""
    reports = found["reports"]
    return {
        name: sum(report["whole"][name] for report in reports) / len(reports)
        for name in ("e_u", "e_r")
    }


def by_group(found: Found) -> dict[str, list[float]]:
    """Returns e_u and e_r of each layer group of one model; groups without tensors are left out."""
    sums: dict[str, list[float]] = {}
    for report in found["reports"]:
        for effect in report["tensors"].values():
            e = sums.setdefault(effect["group"], [0.0, 0.0])
            e[0] += effect["e_u"] / len(found["reports"])
            e[1] += effect["e_r"] / len(found["reports"])
    return {group: sums[group] for group in GROUPS if group in sums}


def write_tables(folder: Path, found: Sequence[Found], facts: Mapping[str, Any]) -> None:
    """Writes the summary of all models, and what it sums up, tensor by tensor and row by row."""
    names = ("step", "e_u", "e_r", "sum_u", "sum_r", *FACTS)
    steps = [{**{n: one[n] for n in names}, "groups": by_group(one)} for one in found]
    write_json(folder / SUMMARY, finite({**facts, "steps": steps}))
    _write(folder / TENSORS, [row for one in found for row in _tensor_rows(one)])
    samples = [{"step": one["step"], **sample} for one in found for sample in one["samples"]]
    if samples:
        _write(folder / SAMPLES, samples)


def _tensor_rows(found: Found) -> list[dict[str, Any]]:
    norms = {"norm_objective": "objective", "norm_risk_u": "forget", "norm_risk_r": "retain"}
    return [
        {
            "step": found["step"],
            "batches": report["batches"],
            "tensor": name,
            "group": effect["group"],
            "e_u": effect["e_u"],
            "e_r": effect["e_r"],
            **{norm: max(effect[square], 0.0) ** 0.5 for norm, square in norms.items()},
        }
        for report in found["reports"]
        for name, effect in report["tensors"].items()
    ]


def _write(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pa.table({name: [row[name] for row in rows] for name in rows[0]})
    pq.write_table(table, path)
