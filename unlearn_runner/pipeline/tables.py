"""Tables that a run prints: its plan before it, its scores after it."""

from __future__ import annotations

from typing import Any

from rich.table import Table

from unlearn_runner.config.root import interactions
from unlearn_runner.evaluation.metrics.scores import Directions, Scores, lower, sort_metrics
from unlearn_runner.pipeline.job import PlannedJob
from unlearn_runner.tracking.divergence import last_finite
from unlearn_runner.utils.console import results_console
from unlearn_runner.utils.redact import redacted
from unlearn_runner.utils.text import format_score

TRAJECTORY = ("model_utility", "forget_quality", "forget", "retain")
"""What is shown of the scores along the way: two metrics, and all of two views."""
MAX_ROWS = 20  # results.json has them all


def print_table(by_model: dict[str, Scores], title: str, better: Directions) -> None:
    """Prints target, unlearned and retain model side by side, each metric with its direction."""
    if not any(by_model.values()):
        print(redacted(title))
        return
    table = Table(title=title, title_justify="left", title_style="bold")
    table.add_column("metric")
    table.add_column("better", justify="center")
    models = [name for name in ("target", "unlearned", "retain_model") if name in by_model]
    for model in models:
        table.add_column(model, justify="right")
    views = ""
    for key in sort_metrics(by_model.get("target", {})):
        view = key.partition(".")[0] if "." in key else ""
        if view != views:
            table.add_section()
            views = view
        arrow = "lower" if lower(key, better) else "higher"
        cells = (format_score(by_model[m].get(key)) for m in models)
        table.add_row(key, arrow, *cells)
    results_console().print(table)


def print_divergence(divergence: dict[str, Any]) -> None:
    """Prints why a run ended early."""
    if divergence:
        cause = divergence.get("cause", "no cause recorded")
        print(redacted(f"diverged {divergence['stage']}: {cause}"))
        if last := last_finite(divergence):
            print(f"         {last}")


def print_trajectory(trajectory: list[dict[str, Any]], last: Scores) -> None:
    """Prints the scores along the way, and the last ones."""
    if not trajectory:
        return
    names = [n for n in sort_metrics(trajectory[0]["scores"]) if n.partition(".")[0] in TRAJECTORY]
    table = Table(title="along the way", title_justify="left", title_style="bold")
    table.add_column("step", justify="right")
    for name in names:
        table.add_column(_in_two_lines(name), justify="right")
    every = -(-len(trajectory) // MAX_ROWS)
    for entry in trajectory[every - 1 :: every]:
        table.add_row(f"{entry['step']}", *(format_score(entry["scores"].get(n)) for n in names))
    table.add_row("end", *(format_score(last.get(n)) for n in names))
    results_console().print(table)


def _in_two_lines(name: str) -> str:
    """Returns a metric's name for the head of a column."""
    return name.replace(".", "\n") if "." in name else name.replace("_", "\n", 1)


def print_plan(job: PlannedJob) -> None:
    """Prints the stages: key, whether stored already, and what each reads."""
    store = job.store
    title = f"plan of {job.composed.name}"
    table = Table(title=title, title_justify="left", title_style="bold")
    for column in ("stage", "key", "cached"):
        table.add_column(column, no_wrap=True)
    table.add_column("reads")
    for stage in job.plan.stages:
        cached = ("given" if stage.given else "yes") if store.manifest(stage) else "no"
        table.add_row(stage.label, f"{stage.kind}/{stage.key}", cached, stage.reads())
    results_console().print(table)
    print(redacted(f"store    {store.root}"))
    for interaction in interactions(job.run):
        print(f"note     {interaction}")
