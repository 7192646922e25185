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
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

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
