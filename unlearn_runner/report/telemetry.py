"""Telemetry of unlearning: charts over the steps, and the same in numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from unlearn_runner.report.run_folder import Line, RunFolder
from unlearn_runner.report.tables import Cell, Column, Table, cell
from unlearn_runner.utils.text import format_score

UNLEARN, ALONG = "unlearn", "score along"
"""What runs call the stages whose telemetry is drawn."""
WINDOW = 0.1
"""Share of the steps over which the share of rectified ones is steps_taken, at least five steps."""
HITS = ("conflict", "rectified")
"""Facts that are true or false of a step: drawn as the share of recent steps."""

MAX_CHARTS = 60

Curve = list[tuple[float, float]]
"""Step and value, steps rising; a value that was not finite is left out."""

NAMES = {
    "loss/forget": "Loss on forget rows",
    "loss/retain": "Loss on retain rows",
    "loss/retain_risk": "Retain risk, watched by the rectifier",
    "cosine": "Cosine of unlearning and retain gradient",
    "conflict": "Share of recent steps in conflict",
    "planned_cosine": "Cosine of AdamW's step and retain mean",
    "step_cosine": "Cosine of step taken and retain mean",
    "rectified": "Share of recent steps rectified",
    "opposed": "Share of numbers with opposite signs",
    "surviving_norm": "Share of gradient norm left by rectifying",
    "grad_norm": "Norm of the gradient stepped with",
    "budget_spent": "Budget: measured rise of retain NLL, nats per token",
    "budget_allowed": "Budget: what the step may spend by first order",
    "budget_planned": "Budget: what the optimizer's step would spend by first order",
    "budget_first_order": "Budget: what the step spent by first order",
    "budget_pace": "Budget: factor of the optimizer's step",
}
NOT_DRAWN = ("stage", "step", "lr", "tokens_per_s", "objective_norm", "retain_norm")
NOT_DRAWN += ("diverged", "found", "not_finite", "weights", "budget_kept")
"""Facts of a line that are not drawn."""


@dataclass(frozen=True)
class Chart:
    """One quantity of all runs over their steps."""

    key: str
    title: str
    curves: dict[int, Curve]
    """By number of the run."""
    over: frozenset[int] = frozenset()
    """Those of them that end early because the run diverged."""


def charts(runs: Sequence[RunFolder], along: Sequence[str]) -> list[Chart]:
    """Returns a chart for each quantity that any run recorded, and for metrics along the way."""
    lines = {run.number: run.steps(UNLEARN) for run in runs}
    over = {run.number for run in runs if run.divergence.get("stage") == UNLEARN}
    found = []
    for key in quantities(runs):
        curves = {n: _curve(steps, key) for n, steps in lines.items()}
        found.append(_chart(key, NAMES.get(key, _words(key)), curves, over))
    for metric in along:
        curves = {run.number: scored(run, metric) for run in runs}
        found.append(_chart(f"along/{metric}", f"{metric}, along the way", curves, over))
    return [chart for chart in found if chart.curves]


def quantities(runs: Sequence[RunFolder]) -> list[str]:
    """Returns the names of what any run recorded, losses first."""
    recorded = (key for run in runs for line in run.steps(UNLEARN) for key in line)
    keys = [key for key in dict.fromkeys(recorded) if key not in NOT_DRAWN]
    known = list(NAMES)
    keys.sort(key=lambda k: (not k.startswith("loss/"), known.index(k) if k in known else 99))
    return keys[:MAX_CHARTS]


def _words(key: str) -> str:
    return f"Loss: {key[5:]}" if key.startswith("loss/") else key.replace("_", " ")


def _chart(key: str, title: str, curves: dict[int, Curve], over: set[int]) -> Chart:
    if not any(len(curve) > 1 for curve in curves.values()):
        return Chart(key, title, {})
    # A single point is no line, but it is where a run ended that diverged at once.
    kept = {n: curve for n, curve in curves.items() if len(curve) > (n not in over)}
    return Chart(key, title, kept, frozenset(over & kept.keys()))


def _curve(lines: Sequence[Line], key: str) -> Curve:
    if key in HITS:
        return _recent(lines, key)
    return [
        (float(line["step"]), float(value))
        for line in lines
        if (value := line.get(key)) is not None and math.isfinite(value)
    ]


def _recent(lines: Sequence[Line], key: str) -> Curve:
    """Returns at each step the share of those among the last few of which something is true."""
    known = [(float(line["step"]), bool(line[key])) for line in lines if key in line]
    wide = max(5, round(WINDOW * len(known)))
    return [
        (step, sum(hit for _, hit in window) / len(window))
        for i, (step, _) in enumerate(known, 1)
        if (window := known[max(0, i - wide) : i])
    ]


def scored(run: RunFolder, metric: str) -> Curve:
    """Returns a metric at each scored step, from the target before to the end."""
    points = [(p["step"], p["scores"].get(metric)) for p in run.results.get("along", ())]
    if not points:
        return []
    steps = run.steps(UNLEARN)
    points.insert(0, (0, run.scores_of("target").get(metric)))
    if steps and steps[-1]["step"] > points[-1][0]:
        points.append((steps[-1]["step"], run.scores.get(metric)))
    return [(float(step), value) for step, value in points if value is not None]


def numbers(runs: Sequence[RunFolder]) -> Table | None:
    """Returns what each run recorded while it unlearned: ends of losses, means of the rest."""
    known = quantities(runs)
    recorded = {run.number: {key: _values(run, key) for key in known} for run in runs}
    keys = [key for key in known if any(found[key] for found in recorded.values())]
    losses = [key for key in keys if key.startswith("loss/")]
    rest = [key for key in keys if key not in losses]
    columns = [Column(name, name, "number") for name in ("run", "steps")]
    columns += [Column(key, f"{key[5:]} loss, first → last") for key in losses]
    columns += [Column(key, f"mean {key.replace('_', ' ')}", "number") for key in rest]
    rows = []
    for run in runs:
        found, steps = recorded[run.number], run.steps(UNLEARN)
        diverged = [line for line in steps if line.get("diverged")]
        count = len(steps) - sum(line.get("found") != "after the step" for line in diverged)
        ended = " (diverged)" if diverged else ""
        row = [cell(run.number), Cell(float(count), f"{count}{ended}")]
        for key in losses:
            ends = [format_score(found[key][i]) for i in (0, -1)] if found[key] else ["–"]
            row.append(cell(" → ".join(ends)))
        means = (math.fsum(found[k]) / len(found[k]) if found[k] else None for k in rest)
        rows.append(row + [cell(mean, format_score) for mean in means])
    return Table("Curves in numbers", columns, rows) if keys else None


def _values(run: RunFolder, key: str) -> list[float]:
    if key in HITS:
        share = run.share_of_steps(key)
        return [] if share is None else [share]
    return [value for _, value in _curve(run.steps(UNLEARN), key)]
