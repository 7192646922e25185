"""Evidence: views, probes, answer roles, and the files that probes leave, known here alone.

Each probe leaves one parquet file per view. A row is keyed by (view, row index, answer role, answer
index), never by its text, so two models' evidence can be compared row by row.

Version 1, which files without a version are, lacks the compressed length of an answer. Up to
version 2 every answer has all statistics of its tokens; since then all but the rows' own have
log-probabilities alone, as no metric reads more. Version 3 also has the files of the probes
`gradients`, `patched` and `clean`.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

from annotated_types import Ge, Gt, Le

from unlearn_runner.data.rows import Rows

VERSION = 3
"""Version of the files' columns; older ones are still read."""
VERSION_KEY = b"unlearn_runner.evidence"

Goal = Literal["forget", "keep", "unseen"]
"""Unseen rows are in no training set: membership attacks compare the forget rows with them."""
Probe = Literal[
    "logprobs",
    "generations",
    "choices",
    "prefixes",
    "samples",
    "gradients",
    "patched",
    "clean",
]
Role = Literal["answer", "paraphrased", "perturbed", "other"]
"""Kind of a scored answer; `other` is a refusal or an alternate."""
Scale = Literal["answer", "options"]
Norm = Literal["l1", "l2", "max"]

PROBES: tuple[Probe, ...] = ("logprobs", "generations")
"""Those that question/answer rows have by default; `choices` is of multiple-choice
rows, `prefixes` continues every beginning of an answer or of a token sequence, `samples` generates
many times, for leak@k, `gradients` takes the gradient of each row's loss, `patched` writes the
model's states into the target, `clean` asks a classifier about what was generated."""
GENERATING: tuple[Probe, ...] = ("generations", "prefixes", "samples")
"""Those that write token by token, and take most of an evaluation's time."""
OF_FINISHED: tuple[Probe, ...] = ("gradients", "patched", "clean")
"""Those of models that are whole and in no training: they take a gradient, or need another model
beside this one."""
NORMS: tuple[Norm, ...] = ("l1", "l2", "max")
"""Norms of a tensor's gradient that the probe `gradients` keeps."""
MAX_TOKENS = 1_000_000
TOKEN_TYPES = {
    "logprob": "float32",
    "hit": "bool",
    "mean": "float32",
    "variance": "float32",
    "entropy": "float32",
    "rank": "int32",
}
"""Columns of the log-probability probe with a list per answer, one entry per scored token, or none
but for `logprob` where the answer is not the row's own; see `probes.logprobs.TokenStats`."""


@dataclass(frozen=True)
class Generation:
    """Greedy generation of answers, up to a number of new tokens."""

    max_new_tokens: Annotated[int, Ge(1), Le(MAX_TOKENS)] = 200
    max_length: Annotated[int, Ge(2), Le(MAX_TOKENS)] | None = None
    """Bound on prompt and answer together (the older TOFU code's 200); null has none."""
    cut_at: tuple[str, ...] = ()
    """Texts that end an answer: it is cut before the first of them (MUSE's few-shot prompts)."""


@dataclass(frozen=True)
class Sampling:
    """Sampled generation of several answers to each question, as long as greedy ones may be."""

    number: Annotated[int, Ge(1), Le(10_000)] = 128
    temperature: Annotated[float, Gt(0), Le(100)] = 1.0
    top_p: Annotated[float, Gt(0), Le(1)] = 1.0
    """Smallest set of tokens that have this probability together; 1 is all."""
    seed: Annotated[int, Ge(0), Le(2**32 - 1)] = 0


@dataclass(frozen=True)
class View:
    """A set of rows an evaluation scores, and how its numbers are to be read."""

    split: str
    """Name of the split; `request` stands for the evaluated form of the chosen forget split,
    `holdout` for its unseen rows."""
    goal: Goal = "keep"
    """Whether these rows are to be forgotten or kept, or are unseen by every model; decides how
    truth ratios are aggregated, and what membership attacks compare."""
    probability: Scale = "answer"
    """P(answer), or P(answer) as a share of it and the wrong options (TOFU's facts)."""
    limit: Annotated[int, Ge(1), Le(10**9)] | None = None
    """Score only the first rows; null scores all."""
    probes: tuple[Probe, ...] = PROBES
    """Probes run over these rows; a metric has no score where its evidence is missing."""
    generate: Generation | None = None
    """How answers to these rows are generated; null is as the benchmark says for all."""
    sample: Sampling | None = None
    """How the probe `samples` draws answers; null is 128 at temperature 1."""
    question: Literal["original", "paraphrased"] = "original"
    """Which is put to a model: the row's question, or its `paraphrased_question`."""
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


def compressed_length(text: str) -> int:
    """Returns the number of bytes that zlib makes of a text, at its default level."""
    return len(zlib.compress(text.encode("utf-8")))


def evidence_file(view: str, probe: Probe) -> str:
    """Returns the name of the file that a probe leaves for a view."""
    return f"{view}.{probe}.parquet"


def recorded(folder: Path, views: Mapping[str, View]) -> dict[str, View]:
    """Returns the views that a folder has evidence of, with those of their probes that left it."""
    found = {}
    for name, view in views.items():
        probes = tuple(p for p in view.probes if (folder / evidence_file(name, p)).exists())
        if probes:
            found[name] = replace(view, probes=probes)
    return found


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
