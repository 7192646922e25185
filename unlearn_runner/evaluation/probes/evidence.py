"""Evidence files of the probes: one parquet row per scored answer or generated text."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from unlearn_runner.data.rows import Rows
from unlearn_runner.evaluation.schema import (
    ANSWER,
    GENERATION,
    INDEX,
    LOGPROB,
    QUESTION,
    ROLE,
    ROW,
    TOKEN_TYPES,
    VIEW,
    ScoredAnswer,
    evidence_file,
)


def scored_answers(rows: Rows) -> list[ScoredAnswer]:
    """Returns every answer of a split that is scored, keyed by row, role and index."""
    answers: list[ScoredAnswer] = []
    for row, qa in enumerate(rows):
        answers.append(ScoredAnswer(row, "answer", 0, qa.answer))
        if qa.paraphrased_answer is not None:
            answers.append(ScoredAnswer(row, "paraphrased", 0, qa.paraphrased_answer))
        wrong = enumerate(qa.perturbed_answers)
        answers += [ScoredAnswer(row, "perturbed", i, text) for i, text in wrong]
    return answers


def write_logprobs(
    folder: Path, view: str, answers: Sequence[ScoredAnswer], stats: Sequence[Any]
) -> None:
    """Writes the log-probability probe's evidence of one view.

    Args:
        folder: Where to.
        view: Its name, which is also the file's.
        answers: What was scored.
        stats: `probes.logprobs.TokenStats` of each.
    """
    rows, roles, indices, _ = zip(*answers, strict=True)
    columns = {
        VIEW: pa.array([view] * len(answers)),
        ROW: pa.array(rows, pa.int32()),
        ROLE: pa.array(roles),
        INDEX: pa.array(indices, pa.int32()),
    }
    for name, kind in TOKEN_TYPES.items():
        per_token = pa.list_(pa.type_for_alias(kind))
        columns[name] = pa.array([getattr(one, name) for one in stats], per_token)
    pq.write_table(pa.table(columns), folder / evidence_file(view, "logprobs"))


def read_logprobs(folder: Path, view: str) -> dict[tuple[int, int], np.ndarray[Any, Any]]:
    """Returns per-token log-probabilities by (row, answer index), in the order of writing."""
    path = folder / evidence_file(view, "logprobs")
    found = pq.read_table(path, columns=[ROW, INDEX, LOGPROB]).to_pydict()
    values = (np.asarray(row, dtype=np.float32) for row in found[LOGPROB])
    return dict(zip(zip(found[ROW], found[INDEX], strict=True), values, strict=True))


def write_generations(folder: Path, view: str, rows: Rows, texts: Sequence[str]) -> None:
    """Writes the generation probe's evidence of one view."""
    columns = {
        VIEW: [view] * len(rows),
        ROW: list(range(len(rows))),
        QUESTION: [row.question for row in rows],
        GENERATION: list(texts),
        ANSWER: [row.answer for row in rows],
    }
    pq.write_table(pa.table(columns), folder / evidence_file(view, "generations"))
