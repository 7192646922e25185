"""Evidence written: one parquet row per scored answer or generated text."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from unlearn_runner.data.rows import Rows
from unlearn_runner.evaluation.probes.logprobs import FIELDS, Probed

Asked = tuple[int, str, int, str]
"""Row index, answer role, index of the answer within its role, text of the answer."""

TYPES = {
    "logprob": pa.list_(pa.float32()),
    "hit": pa.list_(pa.bool_()),
    "mean": pa.list_(pa.float32()),
    "variance": pa.list_(pa.float32()),
    "entropy": pa.list_(pa.float32()),
    "rank": pa.list_(pa.int32()),
}


def answers(rows: Rows) -> list[Asked]:
    """Returns every answer of a split that is scored, keyed by row, role and index."""
    asked: list[Asked] = []
    for index, row in enumerate(rows):
        asked.append((index, "answer", 0, row.answer))
        if row.paraphrased_answer is not None:
            asked.append((index, "paraphrased", 0, row.paraphrased_answer))
        asked += [(index, "perturbed", i, text) for i, text in enumerate(row.perturbed_answers)]
    return asked


def write_logprobs(path: Path, view: str, asked: Sequence[Asked], probed: Sequence[Probed]) -> None:
    """Writes the log-probability probe's evidence of one view."""
    rows, roles, indices, _ = zip(*asked, strict=True)
    columns = {
        "view": pa.array([view] * len(asked)),
        "row": pa.array(rows, pa.int32()),
        "role": pa.array(roles),
        "answer_index": pa.array(indices, pa.int32()),
    }
    for name in FIELDS:
        columns[name] = pa.array([getattr(p, name) for p in probed], TYPES[name])
    pq.write_table(pa.table(columns), path)


def write_generations(path: Path, view: str, rows: Rows, texts: Sequence[str]) -> None:
    """Writes the generation probe's evidence of one view."""
    columns = {
        "view": [view] * len(rows),
        "row": list(range(len(rows))),
        "question": [row.question for row in rows],
        "generation": list(texts),
        "answer": [row.answer for row in rows],
    }
    pq.write_table(pa.table(columns), path)
