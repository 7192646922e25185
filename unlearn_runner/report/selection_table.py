"""Selection of a sweep in a report: sentences and a table."""

from __future__ import annotations

from collections.abc import Sequence

from unlearn_runner.evaluation.metrics.scores import sort_metrics
from unlearn_runner.report.compare import Comparison
from unlearn_runner.report.selection_file import LABELS, Chosen, setting_name
from unlearn_runner.report.tables import Cell, Column, Table, cell
from unlearn_runner.utils.text import format_interval


def sentences(compared: Comparison) -> list[str]:
    """Returns what was selected in each sweep and how, or why nothing was."""
    return [_sentence(selection, compared) for selection in compared.selections]


def _sentence(chosen: Chosen, compared: Comparison) -> str:
    winner = chosen.selected
    criterion = chosen.content["criterion"]
    if winner is None:
        found = dict.fromkeys(setting["why_not"] for setting in chosen.content["settings"])
        reasons = "; ".join(why for why in found if why)
        sentence = f"{chosen.folder.name}: nothing was selected ({reasons})."
    else:
        runs = [run.number for run in compared.runs if chosen.holds(run)]
        at = f" (run {', '.join(map(str, runs))})" if runs else ""
        sentence = f"{chosen.folder.name}: {setting_name(winner['axes'])}{at}. "
        sentence += f"Criterion: {criterion['stated']}."
        if criterion["peek"]:
            sentence += " It was allowed to read the retain-only model."
    if count := chosen.missing(compared.runs):
        sentence += f" {count} runs here were no part of it; a command with them selects anew."
    return sentence


def table(compared: Comparison) -> Table | None:
    """Returns a row per score of each selected setting: of both parts and of all rows."""
    columns = [Column(name, name) for name in ("sweep", "setting", "metric", "better")]
    columns += [Column(key, label, "number") for key, label in LABELS.items()]
    rows: list[Sequence[Cell]] = []
    for chosen in compared.selections:
        winner = chosen.selected
        if winner is None:
            continue
        scores = winner["scores"]
        for name in sort_metrics(scores):
            words = (chosen.folder.name, setting_name(winner["axes"]), name, compared.better(name))
            means = (scores[name][column] for column in LABELS)
            cells = (Cell(mean, format_interval(mean, half, "–")) for mean, half in means)
            rows.append([*map(cell, words), *cells])
    return Table("Selection", columns, rows) if rows else None
