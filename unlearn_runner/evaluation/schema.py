"""Schema of evidence: views, probes, answer roles, file names and columns, defined here alone.

Each probe leaves one parquet file per view. A row is keyed by (view, row index, answer role, answer
index), never by its text, so two models' evidence can be compared row by row.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal, NamedTuple

from annotated_types import Ge, Le

Goal = Literal["forget", "keep"]
Probe = Literal["logprobs", "generations"]
Role = Literal["answer", "paraphrased", "perturbed", "other"]
"""Kind of a scored answer; `other` is a refusal or an alternate."""
Scale = Literal["answer", "options"]

PROBES: tuple[Probe, ...] = ("logprobs", "generations")
VIEW, ROW, ROLE, INDEX = KEY = ("view", "row", "role", "answer_index")
LOGPROB = "logprob"
TOKEN_TYPES = {
    LOGPROB: "float32",
    "hit": "bool",
    "mean": "float32",
    "variance": "float32",
    "entropy": "float32",
    "rank": "int32",
}
"""Columns of the log-probability probe with a list per answer, one entry per scored token; see
`probes.logprobs.TokenStats`."""
TEXTS = QUESTION, GENERATION, ANSWER = ("question", "generation", "answer")
"""Columns of the generation probe, one text per row."""


def evidence_file(view: str, probe: Probe) -> str:
    """Returns the name of the file that a probe leaves for a view."""
    return f"{view}.{probe}.parquet"


class ScoredAnswer(NamedTuple):
    """One answer that the log-probability probe scores, by its key within the view."""

    row: int
    role: Role
    answer_index: int
    """Within its role."""
    text: str


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
