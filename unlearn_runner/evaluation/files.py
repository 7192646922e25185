"""Evidence files: what the probes write, a parquet file per view, and how it is read back.

Columns and versions are `schema`'s.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any, NamedTuple

from unlearn_runner.data.rows import Rows
from unlearn_runner.evaluation.schema import (
    NORMS,
    TOKEN_TYPES,
    VERSION,
    VERSION_KEY,
    Norm,
    Probe,
    ScoredAnswer,
    compressed_length,
    evidence_file,
)


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

    rows, roles, indices, texts = zip(*answers, strict=True)
    columns = {
        "view": pa.array([view] * len(answers)),
        "row": pa.array(rows, pa.int32()),
        "role": pa.array(roles),
        "answer_index": pa.array(indices, pa.int32()),
        "zlib": pa.array([compressed_length(text) for text in texts], pa.int32()),
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


def write_samples(folder: Path, view: str, texts: Sequence[Sequence[str]]) -> None:
    """Writes the sampling probe's evidence of one view: a line per row and sample."""
    each = [(row, i, text) for row, found in enumerate(texts) for i, text in enumerate(found)]
    names = ("row", "sample", "generation")
    columns: dict[str, Any] = {"view": [view] * len(each)}
    columns |= {name: [line[i] for line in each] for i, name in enumerate(names)}
    _write(columns, folder / evidence_file(view, "samples"))


def read_samples(folder: Path, view: str) -> list[list[str]]:
    """Returns the sampled answers of each row of a view.

    Raises:
        ValueError: A row is missing.
    """
    table = read_evidence(folder, view, "samples", ("row", "sample", "generation"))
    table = table.sort_by([("row", "ascending"), ("sample", "ascending")])
    found: list[list[str]] = []
    lines = zip(table["row"].to_pylist(), table["generation"].to_pylist(), strict=True)
    for row, group in groupby(lines, key=itemgetter(0)):
        if row != len(found):
            raise ValueError(f"row {len(found)} has no samples")
        found.append([text for _, text in group])
    return found


def write_gradients(folder: Path, view: str, rows: Sequence[Mapping[str, Sequence[float]]]) -> None:
    """Writes the gradient probe's evidence of one view: a line per row and tensor of the model.

    Args:
        folder: Where to.
        view: Its name.
        rows: By tensor, the `NORMS` of its gradient.
    """
    each = [(i, tensor, *norms) for i, row in enumerate(rows) for tensor, norms in row.items()]
    names = ("row", "tensor", *NORMS)
    columns: dict[str, Any] = {"view": [view] * len(each)}
    columns |= {name: [line[i] for line in each] for i, name in enumerate(names)}
    _write(columns, folder / evidence_file(view, "gradients"))


def read_gradients(folder: Path, view: str) -> dict[Norm, list[float]]:
    """Returns the mean over the model's tensors of a norm of their gradients; by norm, of each row.

    Raises:
        ValueError: A row is missing.
    """
    table = read_evidence(folder, view, "gradients", ("row", *NORMS))
    means = table.group_by("row").aggregate([(norm, "mean") for norm in NORMS]).sort_by("row")
    if means["row"].to_pylist() != list(range(len(means))):
        raise ValueError("its gradients are not of rows 0, 1, 2, ...")
    return {norm: means[f"{norm}_mean"].to_pylist() for norm in NORMS}


def write_clean(folder: Path, view: str, probabilities: Sequence[float]) -> None:
    """Writes what a classifier makes of a view's generated texts: a probability per row."""
    columns = {"view": [view] * len(probabilities), "row": [*range(len(probabilities))]}
    _write({**columns, "clean": [*probabilities]}, folder / evidence_file(view, "clean"))


def write_patched(folder: Path, view: str, rows: Sequence[Sequence[float]]) -> None:
    """Writes the patching probe's evidence of one view: a line per row and block.

    Args:
        folder: Where to.
        view: Its name.
        rows: Mean log-probability of a row's fact: the target's own, which is of block -1, then
            with the model's states behind each block.
    """
    each = [(i, block, value) for i, row in enumerate(rows) for block, value in enumerate(row, -1)]
    columns: dict[str, Any] = {"view": [view] * len(each)}
    names = ("row", "block", "logprob")
    columns |= {name: [line[i] for line in each] for i, name in enumerate(names)}
    _write(columns, folder / evidence_file(view, "patched"))


def read_patched(folder: Path, view: str) -> list[list[float]]:
    """Returns what `write_patched` wrote.

    Raises:
        ValueError: A row or a block is missing.
    """
    table = read_evidence(folder, view, "patched", ("row", "block", "logprob"))
    table = table.sort_by([("row", "ascending"), ("block", "ascending")])
    values, blocks = table["logprob"].to_pylist(), len(set(table["block"].to_pylist()))
    if table["row"].to_pylist() != [i // blocks for i in range(len(values))]:
        raise ValueError("its rows are not 0, 1, 2, ..., each with every block")
    return [values[i : i + blocks] for i in range(0, len(values), blocks)]


class Choices(NamedTuple):
    """Scored continuations of one multiple-choice question."""

    logprobs: tuple[float, ...]
    """Sum over each continuation's tokens, in nats."""
    characters: tuple[int, ...]
    """Length of each, white space at its ends apart."""
    correct: int


def write_choices(folder: Path, view: str, rows: Sequence[Choices]) -> None:
    """Writes the choice probe's evidence of one view: a row per choice."""
    each = [(i, j, c) for i, c in enumerate(rows) for j in range(len(c.logprobs))]
    columns = {
        "view": [view] * len(each),
        "row": [i for i, _, _ in each],
        "choice_index": [j for _, j, _ in each],
        "logprob": [c.logprobs[j] for _, j, c in each],
        "characters": [c.characters[j] for _, j, c in each],
        "correct": [j == c.correct for _, j, c in each],
    }
    _write(columns, folder / evidence_file(view, "choices"))


def read_choices(folder: Path, view: str) -> list[Choices]:
    """Returns the scored choices of each row of a view.

    Raises:
        ValueError: A row is missing, or has no right choice, or several.
    """
    names = ("row", "choice_index", "logprob", "characters", "correct")
    table = read_evidence(folder, view, "choices", names)
    table = table.sort_by([("row", "ascending"), ("choice_index", "ascending")])
    found: list[Choices] = []
    columns = [table[name].to_pylist() for name in ("row", "logprob", "characters", "correct")]
    for row, group in groupby(zip(*columns, strict=True), key=itemgetter(0)):
        _, logprobs, characters, correct = zip(*group, strict=True)
        if row != len(found) or correct.count(True) != 1:
            raise ValueError(f"row {row} has no right choice, or one before it is missing")
        found.append(Choices(logprobs, characters, correct.index(True)))
    return found


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

    pq.write_table(pa.table(columns, metadata={VERSION_KEY: str(VERSION).encode()}), path)


def read_evidence(folder: Path, view: str, probe: Probe, columns: Sequence[str]) -> Any:
    """Returns columns of what a probe left for a view, as an arrow table."""
    import pyarrow.parquet as pq

    return pq.read_table(folder / evidence_file(view, probe), columns=list(columns))


class Tokens(NamedTuple):
    """Statistics of an answer's tokens, end of sequence last; see `TOKEN_TYPES`. Each [tokens]."""

    logprob: Any
    hit: Any
    mean: Any
    variance: Any
    entropy: Any


class AnswerTokens(NamedTuple):
    """Tokens of the plain answers of a view, row by row."""

    tokens: list[Tokens]
    zlib: list[int] | None
    """Compressed lengths of the answers' texts, in bytes; none in evidence of version 1."""


def read_tokens(folder: Path, view: str) -> AnswerTokens | None:
    """Returns the tokens of a view's plain answers; none where the file has no such columns.

    Raises:
        ValueError: Rows are missing or doubled, or the file is of a later version.
    """
    import numpy as np
    import pyarrow.parquet as pq

    schema = pq.read_schema(folder / evidence_file(view, "logprobs"))
    if (version := int((schema.metadata or {}).get(VERSION_KEY, b"1"))) > VERSION:
        raise ValueError(f"its version is {version}, and this release knows up to {VERSION}")
    if not set(Tokens._fields) <= set(schema.names):
        return None
    further = [name for name in ("zlib",) if name in schema.names]
    names = ("row", "role", *Tokens._fields, *further)
    table = read_evidence(folder, view, "logprobs", names)
    is_answer = np.array(table["role"].to_pylist()) == "answer"
    table = table.filter(is_answer).sort_by("row")
    if table["row"].to_pylist() != list(range(len(table))):
        raise ValueError("its answers are not of rows 0, 1, 2, ...")
    columns = []
    for name in Tokens._fields:
        lists = table[name].combine_chunks()
        values = lists.flatten().to_numpy(zero_copy_only=False)
        columns.append(np.split(values, np.cumsum(lists.value_lengths().to_numpy())[:-1]))
    rows = [Tokens(*row) for row in zip(*columns, strict=True)] if len(table) else []
    return AnswerTokens(rows, table["zlib"].to_pylist() if further else None)


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
