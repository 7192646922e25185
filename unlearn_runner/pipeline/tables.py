"""Tables that a run prints: its plan before it, its scores after it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from rich.table import Column

from unlearn_runner.config.root import interactions
from unlearn_runner.evaluation.metrics.scores import Directions, Scores, lower, sort_metrics
from unlearn_runner.pipeline.job import PlannedJob
from unlearn_runner.report import tables
from unlearn_runner.tracking.divergence import last_finite
from unlearn_runner.utils.columns import TitledTable
from unlearn_runner.utils.console import results_console, say
from unlearn_runner.utils.redact import redacted
from unlearn_runner.utils.text import format_score

TRAJECTORY = ("model_utility", "forget_quality", "forget", "retain")
"""What is shown of the scores along the way: two metrics, and all of two views."""
MODELS = ("target", "unlearned", "calibrated", "model", "retain_model")
"""In the order of their columns; a run has the first two, or where it evaluates the fourth."""
MAX_ROWS = 20  # results.json has them all


def number_columns(names: Iterable[str]) -> list[Column]:
    """Returns columns of numbers; a dotted name has two lines."""
    return [Column(name.replace(".", "\n", 1), justify="right") for name in names]


def report_table(table: tables.Table, title: str) -> TitledTable:
    """Returns a table of the report for a terminal, its main columns."""
    table = table.narrow()
    settings = [place for place, column in enumerate(table.columns) if column.kind == "text"]
    keys = next((i for i, c in enumerate(table.columns) if c.kind == "number"), 1)
    found = TitledTable(title, keys=max(1, keys))
    for column in table.columns:
        name, _, rest = column.label.partition(" ")
        lines = [*name.split(".", 1), *filter(None, [rest])]
        found.add_column("\n".join(lines), justify="right" if column.kind == "number" else "left")
    for row in table.rows:
        found.add_row(*(cell.text for cell in row))
    found.fold(settings)
    return found


def print_table(by_model: dict[str, Scores], title: str, better: Directions) -> None:
    """Prints the scores of models side by side, each metric with its direction."""
    if not any(by_model.values()):
        say(title)
        return
    models = [name for name in MODELS if name in by_model]
    columns = ["metric", Column("better", justify="center"), *number_columns(models)]
    table = TitledTable(title, *columns)
    section = ""
    for key in sort_metrics(by_model[models[0]]):
        if (view := key.rpartition(".")[0]) != section:
            table.add_section()
            section = view
        arrow = "lower" if lower(key, better) else "higher"
        table.add_row(key, arrow, *(format_score(by_model[m].get(key)) for m in models))
    results_console().print(table)


def print_divergence(divergence: dict[str, Any]) -> None:
    """Prints why a run ended early."""
    if divergence:
        cause = divergence.get("cause", "no cause recorded")
        say(f"diverged {divergence['stage']}: {cause}")
        if last := last_finite(divergence):
            say(f"         {last}")


def print_trajectory(trajectory: list[dict[str, Any]], last: Scores) -> None:
    """Prints the scores along the way, and the last ones."""
    if not trajectory:
        return
    names = [n for n in sort_metrics(trajectory[0]["scores"]) if n.partition(".")[0] in TRAJECTORY]
    # A score of the whole model takes two lines, too.
    heads = (name if "." in name else name.replace("_", ".", 1) for name in names)
    table = TitledTable("along the way", *number_columns(["step", *heads]))
    every = -(-len(trajectory) // MAX_ROWS)
    for entry in trajectory[every - 1 :: every]:
        table.add_row(f"{entry['step']}", *(format_score(entry["scores"].get(n)) for n in names))
    table.add_row("end", *(format_score(last.get(n)) for n in names))
    results_console().print(table)


def print_turns(turns: list[dict[str, Any]]) -> None:
    """Prints a row per request: whom it was about, then utility and a score of each request."""
    if not turns:
        return
    whole = [n for n in sort_metrics(turns[0]["scores"]) if "." not in n]
    first = next(iter(turns[0]["of_requests"].values()))
    name = next(iter(first), "")
    heads = (*whole, *(f"{name}.{request}" for request in turns[-1]["requested"]))
    columns = ["after", Column("people"), *number_columns(h.replace(".", " ", 1) for h in heads)]
    table = TitledTable("requests, one after another", *columns)
    for turn in turns:
        each = (turn["of_requests"][request].get(name) for request in turns[-1]["requested"])
        values = (*(turn["scores"].get(n) for n in whole), *each)
        people = ", ".join(map(str, turn["people"]))
        table.add_row(turn["request"], people, *map(format_score, values))
    results_console().print(table)


def print_plan(job: PlannedJob) -> None:
    """Prints the stages: key, whether stored already, and what each reads."""
    store = job.store
    columns = [Column(name, no_wrap=True) for name in ("stage", "key", "cached")]
    table = TitledTable(f"plan of {job.composed.name}", *columns, "reads")
    for stage in job.plan.stages:
        cached = ("given" if stage.given else "yes") if store.manifest(stage) else "no"
        table.add_row(stage.label, f"{stage.kind}/{stage.key}", cached, stage.reads())
    results_console().print(table)
    print(redacted(f"store    {store.root}"))
    for interaction in interactions(job.run):
        print(f"note     {interaction}")
