"""What happened step by step while a run unlearned."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from unlearn_runner.report.run_folder import Line, RunFolder

UNLEARN, ALONG = "unlearn", "score along"
"""What runs call the stages whose telemetry is drawn."""
WINDOW = 0.1
"""Share of the steps over which the share of rectified ones is steps_taken, at least five steps."""

Curve = list[tuple[float, float]]
"""Step and value, steps rising; a value that was not finite is left out."""

NAMES = {
    "loss/forget": "Loss on forget rows",
    "loss/retain": "Loss on retain rows",
    "loss/retain_risk": "Retain risk, watched by the rectifier",
    "cosine": "Cosine of unlearning and retain gradient",
    "rectified": "Share of recent steps rectified",
    "surviving_norm": "Share of gradient norm left by rectifying",
    "grad_norm": "Norm of the gradient stepped with",
}
APART = ("stage", "step", "lr", "tokens_per_s", "objective_norm", "retain_norm")
APART += ("diverged", "found", "not_finite", "weights")
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
    """Returns a chart for each quantity that any run recorded.

    Args:
        runs: Whose.
        along: Metrics to draw where runs were scored along the way.
    """
    lines = {run.number: run.steps(UNLEARN) for run in runs}
    over = {run.number for run in runs if run.divergence.get("stage") == UNLEARN}
    seen = [key for found in lines.values() for line in found for key in line]
    keys = [key for key in dict.fromkeys(seen) if key not in APART]
    known = list(NAMES)
    keys.sort(key=lambda k: (not k.startswith("loss/"), known.index(k) if k in known else 99))
    found = []
    for key in keys:
        curves = {n: _curve(steps, key) for n, steps in lines.items()}
        found.append(_chart(key, NAMES.get(key, _words(key)), curves, over))
    for metric in along:
        curves = {run.number: _scored(run, metric) for run in runs}
        found.append(_chart(f"along/{metric}", f"{metric}, along the way", curves, over))
    return [chart for chart in found if chart.curves]


def _words(key: str) -> str:
    return f"Loss: {key[5:]}" if key.startswith("loss/") else key.replace("_", " ")


def _chart(key: str, title: str, curves: dict[int, Curve], over: set[int]) -> Chart:
    if not any(len(curve) > 1 for curve in curves.values()):
        return Chart(key, title, {})
    # A single point is no line, but it is where a run ended that diverged at once.
    kept = {n: curve for n, curve in curves.items() if len(curve) > (n not in over)}
    return Chart(key, title, kept, frozenset(over & kept.keys()))


def _curve(lines: Sequence[Line], key: str) -> Curve:
    if key == "rectified":
        return _recent(lines)
    return [
        (float(line["step"]), float(value))
        for line in lines
        if (value := line.get(key)) is not None and math.isfinite(value)
    ]


def _recent(lines: Sequence[Line]) -> Curve:
    """Returns at each step the share of rectified ones among the last few."""
    known = [(float(ln["step"]), bool(ln["rectified"])) for ln in lines if "rectified" in ln]
    wide = max(5, round(WINDOW * len(known)))
    return [
        (step, sum(hit for _, hit in window) / len(window))
        for i, (step, _) in enumerate(known, 1)
        if (window := known[max(0, i - wide) : i])
    ]


def _scored(run: RunFolder, metric: str) -> Curve:
    """Returns a metric at each scored step, from the target before to the end."""
    points = [(p["step"], p["scores"].get(metric)) for p in run.results.get("along", ())]
    if not points:
        return []
    steps = run.steps(UNLEARN)
    points.insert(0, (0, run.scores_of("target").get(metric)))
    if steps and steps[-1]["step"] > points[-1][0]:
        points.append((steps[-1]["step"], run.scores.get(metric)))
    return [(float(step), value) for step, value in points if value is not None]


def rectified_share(run: RunFolder) -> float | None:
    """Returns the share of steps that were rectified; none where nothing could be."""
    hits = [line["rectified"] for line in run.steps(UNLEARN) if "rectified" in line]
    return sum(map(bool, hits)) / len(hits) if hits else None


@dataclass(frozen=True)
class Summary:
    """A run's telemetry in numbers: what its curves show, for those who read rather than look."""

    steps: int
    diverged_at: int | None
    first: dict[str, float]
    last: dict[str, float]
    mean: dict[str, float]


def summary(run: RunFolder) -> Summary:
    """Returns first, last and mean of everything recorded while the run unlearned."""
    lines = run.steps(UNLEARN)
    keys = [k for k in dict.fromkeys(k for line in lines for k in line) if k not in APART]
    values = {key: [v for _, v in _curve(lines, key)] for key in keys if key != "rectified"}
    if (share := rectified_share(run)) is not None:
        values["rectified"] = [share]
    values = {key: found for key, found in values.items() if found}
    diverged = next((line for line in lines if line.get("diverged")), {})
    steps_taken = [
        line for line in lines if line is not diverged or line.get("found") == "after the step"
    ]
    return Summary(
        len(steps_taken),
        diverged.get("step"),
        {key: found[0] for key, found in values.items()},
        {key: found[-1] for key, found in values.items()},
        {key: math.fsum(found) / len(found) for key, found in values.items()},
    )
