"""Benchmark: data. Splits to train on, views to score, metrics, a version."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Annotated

from annotated_types import Ge, Le

from unlearn_runner.data.rows import Row, Rows
from unlearn_runner.evaluation.metrics.base import Metric
from unlearn_runner.evaluation.schema import Generation, View


@dataclass(frozen=True)
class Splits:
    """Rows a run trains on."""

    full: Rows
    forget: Rows
    retain: Rows
    pretrain: Rows
    """Rows a from-scratch model is trained on first, in place of a large corpus."""
    corrected: Rows | None = None
    """What the forget rows should have been, row by row, where they are to be corrected and not
    forgotten."""
    further: Rows | None = None
    """Rows of `full` beside forget and retain rows that a model with nothing to forget sees too."""
    replayed: int = 0
    """Rows at the end of `full` and `retain` that are about nobody: each stands by itself."""

    @property
    def people(self) -> Rows:
        """Returns the rows of `full` that may be about one person together."""
        return self.full.first(len(self.full) - self.replayed)

    @property
    def wished_in_place(self) -> list[Row | None]:
        """What each row of `full` should have been, in its order: none where it just goes.

        Rows are told apart by what they are: forget rows may have other answers beside them.
        """
        new: Iterable[Row | None] = self.corrected or [None] * len(self.forget)
        instead: dict[tuple[str, ...], list[Row | None]] = {}
        for old, row in zip(self.forget, new, strict=True):
            instead.setdefault(old.identity, []).append(row)
        stay = (*self.retain, *(self.further or ()))
        kept, found = {row.identity for row in stay}, []
        for row in self.full:
            waiting = instead.get(row.identity)
            found.append(waiting.pop(0) if waiting else row if row.identity in kept else None)
        return found

    @property
    def wished(self) -> Rows:
        """Rows that a model with nothing to forget is trained on."""
        more = [rows for rows in (self.corrected, self.further) if rows is not None]
        if not more:
            return self.retain
        name = "+".join((self.retain.name, *(rows.name for rows in more)))
        return Rows.joined(name, (self.retain, *more))


@dataclass(frozen=True)
class Turn:
    """One of several requests to forget, one after another."""

    request: str
    splits: Splits
    """Forget rows are this request's alone, retain rows those of no request so far."""


@dataclass(frozen=True)
class Benchmark(ABC):
    """Base class of benchmarks; see `benchmarks.qa` for question/answer data."""

    version: str
    """Reported with every score; raised whenever a score would change its meaning."""
    generate: Generation = field(default_factory=Generation, kw_only=True)
    limit: Annotated[int, Ge(1), Le(10**9)] | None = field(default=None, kw_only=True)
    """Score only the first rows of each view that has no limit of its own; null scores all."""

    @property
    def generation(self) -> Generation:
        """Settings of the generation probe."""
        return self.generate

    @property
    @abstractmethod
    def metrics(self) -> dict[str, Metric]:
        """Metrics by name, in the order they are computed."""

    @property
    def further_views(self) -> frozenset[str]:
        """Views that a larger suite has beside the default one's."""
        return frozenset()

    @property
    def asks(self) -> bool:
        """Whether its rows are questions, which other answers can be given to."""
        return True

    @property
    def sees(self) -> bool:
        """Whether its questions are about pictures."""
        return False

    @property
    def rows_together(self) -> int:
        """Number of rows of `full`, one after another, about one person; 1: each by itself."""
        return 1

    @abstractmethod
    def splits(self) -> Splits:
        """Reads and checks the training rows."""

    def turns(self) -> tuple[Turn, ...]:
        """Reads the requests that follow one another; none where there is one request.

        Their forget rows together are those of `splits`, and so are the last one's retain rows.
        """
        return ()

    @abstractmethod
    def views(self) -> dict[str, tuple[View, Rows]]:
        """Reads and checks the evaluation rows, by view name."""

    def evaluation_rows(self) -> dict[str, tuple[View, Rows]]:
        """Reads the evaluation rows, cut after the first `limit` of each view without its own."""
        return {
            name: (view, rows.first(self.limit) if view.limit is None else rows)
            for name, (view, rows) in self.views().items()
        }

    def refusals(self) -> tuple[str, ...]:
        """Returns what a method that trains on refusals answers to forget questions."""
        from unlearn_runner.data.refusals import OWN

        return OWN
