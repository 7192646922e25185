"""What a benchmark is: data. Splits to train on, views to look at, metrics, a version."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Ge

from unlearn_runner.data.rows import Rows
from unlearn_runner.evaluation.metrics.base import Metric


@dataclass(frozen=True)
class View:
    """A set of rows an evaluation looks at, and how its numbers are to be read."""

    split: str
    """Name of the split; `request` stands for the evaluated form of the chosen forget split."""
    goal: Literal["forget", "keep"] = "keep"
    """Whether these rows are to be forgotten or kept; decides how truth ratios are aggregated."""
    probability: Literal["answer", "options"] = "answer"
    """P(answer), or P(answer) as a share of it and the wrong options (TOFU's facts)."""
    limit: Annotated[int, Ge(1)] | None = None
    """Score only the first rows; null scores all."""


@dataclass(frozen=True)
class Generation:
    """How answers are generated: greedy, up to a number of new tokens."""

    max_new_tokens: Annotated[int, Ge(1)] = 200
    max_length: Annotated[int, Ge(2)] | None = None
    """Bound on prompt and answer together (the older TOFU code's 200); null has none."""


@dataclass(frozen=True)
class Splits:
    """The rows a run trains on."""

    full: Rows
    forget: Rows
    retain: Rows
    pretrain: Rows
    """What a from-scratch model sees first, in place of a large corpus."""


@dataclass(frozen=True)
class Benchmark(ABC):
    """Base class of benchmarks; see `benchmarks.qa` for question/answer data."""

    version: str
    """Reported with every score; raised whenever a score would change its meaning."""

    @property
    @abstractmethod
    def generation(self) -> Generation:
        """How the generation probe generates."""

    @property
    @abstractmethod
    def metrics(self) -> dict[str, Metric]:
        """Metrics by name, in the order they are computed."""

    @property
    def rows_together(self) -> int:
        """How many rows of `full`, one after another, belong to one person; 1: each by itself."""
        return 1

    @abstractmethod
    def splits(self) -> Splits:
        """Reads and checks the training rows."""

    @abstractmethod
    def views(self) -> dict[str, tuple[View, Rows]]:
        """Reads and checks the evaluation rows, by view name."""

    def refusals(self) -> tuple[str, ...]:
        """Returns what a method that trains on refusals answers to forget questions."""
        from unlearn_runner.data.refusals import OWN

        return OWN
