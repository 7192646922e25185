"""Certificates of influence edits: what each solution is worth, as a table of runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from unlearn_runner.report.run_folder import RunFolder
from unlearn_runner.report.tables import Cell, Column, Table, cell
from unlearn_runner.utils.text import format_score
from unlearn_runner.utils.untrusted import clean, is_number

KIND = "influence"
"""Of the stage whose facts a certificate is."""
WORDS = ("task", "solver", "hvp", "hessian")
NUMBERS = {
    "gradient_over_b": "gradient / b",
    "residual": "residual",
    "residual_held": "held rows",
    "residual_undamped": "undamped",
    "curvature": "curvature",
    "damping": "damping",
    "damping_raised": "raised",
    "condition": "condition",
    "predicted_change": "predicted, nats",
    "gradient_passes": "gradient passes",
    "product_passes": "product passes",
}


def table(runs: Sequence[RunFolder]) -> Table | None:
    """Returns one row per run that solved a system, or none; a cached solution is one too."""
    known = {run.number: found for run in runs if (found := _certificate(run))}
    columns = [Column("run", "run", "number"), *(Column(name, name) for name in WORDS)]
    columns += [Column(name, label, "number") for name, label in NUMBERS.items()]
    rows = [[cell(number), *_cells(found)] for number, found in known.items()]
    return Table("Certificates", columns, rows) if rows else None


def _certificate(run: RunFolder) -> Mapping[str, Any]:
    stages = run.results.get("stages", ())
    return next((s["facts"] for s in stages if s["kind"] == KIND and s.get("facts")), {})


def _cells(found: Mapping[str, Any]) -> list[Cell]:
    words = [found.get(name) for name in WORDS]
    numbers = [found.get(name) for name in NUMBERS]
    return [
        *(cell(clean(word) if isinstance(word, str) else None) for word in words),
        *(cell(float(x) if is_number(x) else None, format_score) for x in numbers),
    ]
