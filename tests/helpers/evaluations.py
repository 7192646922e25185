"""Evaluations of short rows: the full suite's views, small enough for a tiny model."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from unlearn_runner.api import compose
from unlearn_runner.data.prompts import Template
from unlearn_runner.data.rows import Rows
from unlearn_runner.evaluation.evaluator import Evaluator
from unlearn_runner.evaluation.schema import Generation, Probe, View

Views = dict[str, tuple[View, Rows]]


def short_views(limit: int) -> Views:
    """Returns the embedded benchmark's views with the last words of every text."""
    benchmark = compose("benchmark.suite=full", f"benchmark.limit={limit}").benchmark
    return {
        name: (view, Rows(name, tuple(_short(row, i) for i, row in enumerate(rows))))
        for name, (view, rows) in benchmark.evaluation_rows().items()
    }


def _short(row: Any, number: int) -> Any:
    def cut(text: str) -> str:
        return " ".join(text.split()[-3:])

    return replace(
        row,
        question=f"{number} {cut(row.question)}",
        answer=cut(row.answer),
        paraphrased_answer=row.paraphrased_answer and cut(row.paraphrased_answer),
        perturbed_answers=tuple(map(cut, row.perturbed_answers)),
    )


def evaluator_of(
    views: Views, batch_size: int = 16, more: dict[str, tuple[Probe, ...]] | None = None
) -> Evaluator:
    """Returns the evaluator of views; `more` names further probes of some."""
    return Evaluator(
        template=Template(prompt="{question}\n", answer=" {answer}"),
        views={name: rows for name, (_, rows) in views.items()},
        generation=Generation(max_new_tokens=4),
        max_length=128,
        precision="float32",
        batch_size=batch_size,
        probes={
            name: view.probes + (more or {}).get(name, ()) for name, (view, _) in views.items()
        },
    )
