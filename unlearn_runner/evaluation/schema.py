"""Evidence: views, probes, answer roles, and the files that probes leave, known here alone.

Each probe leaves one parquet file per view. A row is keyed by (view, row index, answer role, answer
index), never by its text, so two models' evidence can be compared row by row.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

from annotated_types import Ge, Le

from unlearn_runner.data.rows import Rows

Goal = Literal["forget", "keep"]
Probe = Literal["logprobs", "generations", "prefixes"]
Role = Literal["answer", "paraphrased", "perturbed", "other"]
"""Kind of a scored answer; `other` is a refusal or an alternate."""
Scale = Literal["answer", "options"]

PROBES: tuple[Probe, ...] = ("logprobs", "generations")
MAX_TOKENS = 1_000_000
TOKEN_TYPES = {
    "logprob": "float32",
    "hit": "bool",
    "mean": "float32",
    "variance": "float32",
    "entropy": "float32",
    "rank": "int32",
}
"""Columns of the log-probability probe with a list per answer, one entry per scored token; see
`probes.logprobs.TokenStats`."""


@dataclass(frozen=True)
class Generation:
    """Greedy generation of answers, up to a number of new tokens."""

    max_new_tokens: Annotated[int, Ge(1), Le(MAX_TOKENS)] = 200
    max_length: Annotated[int, Ge(2), Le(MAX_TOKENS)] | None = None
    """Bound on prompt and answer together (the older TOFU code's 200); null has none."""
    cut_at: tuple[str, ...] = ()
    """Texts that end an answer: it is cut before the first of them (MUSE's few-shot prompts)."""


@dataclass(frozen=True)
class View:
    """A set of rows an evaluation scores, and how its numbers are to be read."""

    split: str
    """Name of the split; `request` stands for the evaluated form of the chosen forget split."""
    goal: Goal = "keep"
    """Whether these rows are to be forgotten or kept; decides how truth ratios are aggregated."""
    probability: Scale = "answer"
    """P(answer), or P(answer) as a share of it and the wrong options (TOFU's facts)."""
    limit: Annotated[int, Ge(1), Le(10**9)] | None = None
    """Score only the first rows; null scores all."""
    probes: tuple[Probe, ...] = PROBES
    """Probes run over these rows; a metric has no score where its evidence is missing."""
    generate: Generation | None = None
    """How answers to these rows are generated; null is as the benchmark says for all."""
    start_only: bool = False
    """Score these rows on the model that unlearning starts from alone: unseen text, on which
    `train.stop` finds its thresholds."""


class ScoredAnswer(NamedTuple):
    """One answer that the log-probability probe scores, by its key within the view."""

    row: int
    role: Role
    answer_index: int
    """Within its role."""
    text: str


def scored_answers(rows: Rows) -> list[ScoredAnswer]:
    """Returns every answer of a split that is scored."""
    answers: list[ScoredAnswer] = []
    for row, qa in enumerate(rows):
        answers.append(ScoredAnswer(row, "answer", 0, qa.answer))
        if qa.paraphrased_answer is not None:
            answers.append(ScoredAnswer(row, "paraphrased", 0, qa.paraphrased_answer))
        wrong = enumerate(qa.perturbed_answers)
        answers += [ScoredAnswer(row, "perturbed", i, text) for i, text in wrong]
    return answers


def evidence_file(view: str, probe: Probe) -> str:
    """Returns the name of the file that a probe leaves for a view."""
    return f"{view}.{probe}.parquet"


def write_logprobs(
    folder: Path, view: str, answers: Sequence[ScoredAnswer], stats: Sequence[Any]
) -> None:
    """Writes the log-probability probe's evidence of one view: a row per answer.

    Args:
        folder: Where to.
        view: Its name, which is also the file's.
        answers: What was scored.
        stats: `probes.logprobs.TokenStats` of each.
    """
    import pyarrow as pa

    rows, roles, indices, _ = zip(*answers, strict=True)
    columns = {
        "view": pa.array([view] * len(answers)),
        "row": pa.array(rows, pa.int32()),
        "role": pa.array(roles),
        "answer_index": pa.array(indices, pa.int32()),
    }
    for name, kind in TOKEN_TYPES.items():
        per_token = pa.list_(pa.type_for_alias(kind))
        columns[name] = pa.array([getattr(one, name) for one in stats], per_token)
    _write(columns, folder / evidence_file(view, "logprobs"))


def write_generations(folder: Path, view: str, rows: Rows, texts: Sequence[str]) -> None:
    """Writes the generation probe's evidence of one view: a generated text per row."""
    columns = {
        "view": [view] * len(rows),
        "row": list(range(len(rows))),
        "question": [row.question for row in rows],
        "generation": list(texts),
        "answer": [row.answer for row in rows],
    }
    _write(columns, folder / evidence_file(view, "generations"))


def write_prefixes(
    folder: Path, view: str, rows: Sequence[Any], found: Sequence[Sequence[Sequence[int]]]
) -> None:
    """Writes the prefix probe's evidence of one view: a line per row and prefix of it.

    Args:
        folder: Where to.
        view: Its name.
        rows: `data.encode.Encoded`.
        found: Per row, the token ids behind each prefix, the shortest prefix first.
    """
    import pyarrow as pa

    at = [(i, len(row.ids) - row.num_labels) for i, row in enumerate(rows)]
    lines = [(i, first + j) for i, first in at for j in range(len(found[i]))]
    ids = pa.list_(pa.int32())
    columns = {
        "view": pa.array([view] * len(lines)),
        "row": pa.array([row for row, _ in lines], pa.int32()),
        "prefix": pa.array([length for _, length in lines], pa.int32()),
        "generated": pa.array([list(one) for row in found for one in row], ids),
        "expected": pa.array([list(rows[row].ids[length:]) for row, length in lines], ids),
    }
    _write(columns, folder / evidence_file(view, "prefixes"))


def _write(columns: dict[str, Any], path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table(columns), path)


def read_evidence(folder: Path, view: str, probe: Probe, columns: Sequence[str]) -> Any:
    """Returns columns of what a probe left for a view, as an arrow table."""
    import pyarrow.parquet as pq

    return pq.read_table(folder / evidence_file(view, probe), columns=list(columns))


def read_logprobs(folder: Path, view: str) -> dict[tuple[int, int], Any]:
    """Returns per-token log-probabilities by (row, answer index), in the order of writing."""
    import numpy as np

    names = ("row", "answer_index", "logprob")
    table = read_evidence(folder, view, "logprobs", names)
    columns = (table[name].to_pylist() for name in names)
    return {
        (row, index): np.asarray(values, dtype=np.float32)
        for row, index, values in zip(*columns, strict=True)
    }
