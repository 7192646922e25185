"""Answers of models: expected, before unlearning, after it, and by the retain model.

The texts are in the evidence of the evaluations that `results.json` names; where the store cannot
be reached, a report does without them and says so.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from unlearn_runner.evaluation.metrics.evidence import read_texts
from unlearn_runner.report.run_folder import RunFolder, read
from unlearn_runner.report.schema import SAFE_NAME
from unlearn_runner.utils.untrusted import clean

MODELS = {
    "before": ("evaluate target",),
    "after": ("evaluate unlearned", "evaluate model"),
    "retain_model": ("evaluate retain_model",),
}
"""Stages by column, of which a run has one."""
MAX_LENGTH = 400
"""Characters of a text; a model that repeats itself says no more in the rest."""


class Question(NamedTuple):
    """Question of a view, with the expected answer."""

    row: int
    question: str
    answer: str


@dataclass
class Answers:
    """The texts of all runs, each evaluation's once."""

    questions: dict[str, dict[str, list[Question]]] = field(default_factory=dict)
    """Rows by view, by the evaluation they were first seen in."""
    texts: dict[str, dict[str, list[list[str]]]] = field(default_factory=dict)
    """Generated texts by view, by evaluation; every second piece of a text is of the expected
    answer."""
    runs: dict[int, dict[str, str]] = field(default_factory=dict)
    """By run: the evaluation of each column, and under "questions" whose rows they answer."""
    missing: list[int] = field(default_factory=list)
    """Runs that were evaluated, and whose evidence cannot be reached."""


def views(config: Mapping[str, Any]) -> list[str]:
    """Returns the view to forget, and the one that shows best what was kept."""
    found = config.get("benchmark", {}).get("view")
    if not isinstance(found, Mapping):
        return []
    forget = [n for n, v in found.items() if isinstance(v, Mapping) and v.get("goal") == "forget"]
    kept = [name for name in found if name not in forget]
    kept.sort(key=lambda name: name != "retain")
    return forget[:1] + kept[:1]


def collect(runs: Sequence[RunFolder], rows: int, store: Path | None = None) -> Answers:
    """Returns the answers of all runs whose evidence can be reached, `store` searched first.

    Of each view they are of so many rows, spread evenly over it.
    """
    found = Answers()
    for run in runs:
        wanted = views(run.config)
        columns = {}
        for column, names in MODELS.items():
            ran = next(filter(None, map(run.stage, names)), None)
            if ran is None or ran.outcome != "completed":
                continue
            if ran.key not in found.texts:
                found.texts[ran.key], found.questions[ran.key] = {}, {}
                if folder := run.artifact(ran, store):
                    _keep(found, ran.key, folder, wanted, rows)
            if found.texts[ran.key]:
                columns[column] = ran.key
        if "after" in columns:
            questions = found.questions[columns["after"]]
            # Of equal questions the first serve for all.
            columns["questions"] = next(
                k for k, rows in found.questions.items() if rows == questions
            )
            found.runs[run.number] = columns
        elif any((ran := run.stage(n)) and ran.outcome == "completed" for n in MODELS["after"]):
            found.missing.append(run.number)
    return found


def run_answers(folder: Path, rows: int = 10) -> list[tuple[str, ...]]:
    """Returns a few answers of a run: view, row, question, expected, before, after, retain model.

    A model whose evidence cannot be reached has said nothing.
    """
    found = collect([read(folder)], rows)
    told = []
    for columns in found.runs.values():
        for view, questions in found.questions[columns["questions"]].items():
            for at, one in enumerate(questions):
                texts = (
                    "".join(found.texts[columns[m]][view][at]) if m in columns else ""
                    for m in MODELS
                )
                told.append((view, str(one.row), one.question, one.answer, *texts))
    return told


def _keep(found: Answers, key: str, folder: Path, wanted: Sequence[str], rows: int) -> None:
    for view in filter(SAFE_NAME.fullmatch, wanted):  # it becomes part of a file's name
        texts = None
        with suppress(Exception):  # damaged, of another probe, or no file of ours
            texts = read_texts(folder, view)
        if texts is None:
            continue
        chosen = spread(len(texts.questions), rows)
        found.questions[key][view] = questions = [
            Question(i + 1, _cut(texts.questions[i]), _cut(texts.answers[i])) for i in chosen
        ]
        found.texts[key][view] = [
            pieces(_cut(texts.generations[i]), one.answer)
            for i, one in zip(chosen, questions, strict=True)
        ]


def pieces(text: str, expected: str) -> list[str]:
    """Splits a text into what is not and what is of the expected answer, in turns.

    What is: the words of a longest common subsequence, which is what ROUGE-L counts.
    """
    parts = re.split(r"(\w+)", text)
    mine, theirs = [p.lower() for p in parts[1::2]], re.findall(r"\w+", expected.lower())
    hits = _common(mine, theirs)
    found = [""]
    for i, part in enumerate(parts):
        marked = i % 2 == 1 and i // 2 in hits
        if part and marked != (len(found) % 2 == 0):
            found.append("")
        found[-1] += part
    return found


def _common(mine: Sequence[str], theirs: Sequence[str]) -> set[int]:
    """Returns the places in `mine` of a longest common subsequence."""
    best: list[tuple[int, ...]] = [()] * (len(theirs) + 1)
    """Of what follows a place in `mine`, by where `theirs` begins."""
    for i in reversed(range(len(mine))):
        after = best
        best = [()] * (len(theirs) + 1)
        for j in reversed(range(len(theirs))):
            if mine[i] == theirs[j]:
                best[j] = (i, *after[j + 1])
            else:
                best[j] = after[j] if len(after[j]) >= len(best[j + 1]) else best[j + 1]
    return set(best[0])


def spread(total: int, max_count: int) -> list[int]:
    """Returns up to `max_count` of `total` places, evenly spread, the first among them."""
    count = min(total, max_count)
    return [i * total // count for i in range(count)]


def _cut(text: str) -> str:
    text = " ".join(clean(str(text)).split())
    return text if len(text) <= MAX_LENGTH else f"{text[:MAX_LENGTH].rstrip()} …"


def as_json(found: Answers) -> dict[str, Any]:
    """Returns what the page needs to show another run's answers."""
    used = {key for columns in found.runs.values() for key in columns.values()}
    shown = {columns["questions"] for columns in found.runs.values()}
    return {
        "questions": {key: by for key, by in found.questions.items() if key in shown},
        "texts": {key: by for key, by in found.texts.items() if key in used},
        "runs": found.runs,
    }
