"""Recommendation: the next item, or whether one is liked; some training records are corrupted.

What is corrupted is the last title of a history, or the answer.
"""

from __future__ import annotations

import random
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, cast

from annotated_types import Ge, Gt, Le, Lt

from unlearn_runner.data.recommendation.interactions import Interacted, Interactions
from unlearn_runner.data.recommendation.preferences import preferences
from unlearn_runner.data.recommendation.records import (
    MIN_HISTORY,
    Noise,
    Question,
    Split,
    records,
    split_users,
)
from unlearn_runner.data.rows import QA
from unlearn_runner.errors import ConfigError
from unlearn_runner.evaluation.benchmarks.corrected import TEST, VALIDATION, Corrected, drawn
from unlearn_runner.evaluation.metrics.base import Metric

Share = Annotated[float, Ge(0), Lt(1)]


@dataclass(frozen=True)
class FromInteractions(Corrected):
    """Base class of benchmarks over users' interactions, with noise in some training records."""

    source: Interacted
    metric: dict[str, Metric]
    data_dir: str | None = None
    """Folder of upstream files for the source; shorthand for `source.data_dir`."""
    items: Annotated[int, Ge(8)] | None = None
    """Only the most frequent items; null is all of them."""
    history: Annotated[int, Ge(3), Le(1000)] = 10
    """Items of a history, at most."""
    each: Annotated[int, Ge(1), Le(10_000)] = 3
    """Records of a training user, at most; of others one, the last."""
    noise: Noise | None = "replace_last"
    """What is wrong with a corrupted record; the first two are for task=modify_query, the third is
    for task=correct_response. Null: nothing is, they are to be removed (task=remove)."""
    noise_share: Annotated[float, Gt(0), Lt(1)] = 0.05
    """Share of training records that are corrupted."""
    pretrain_share: Share = 0.4
    """Share of users on whose clean records a from-scratch base is trained first."""
    validation_share: Share = 0.1
    test_share: Share = 0.1
    seed: Annotated[int, Ge(0)] = 0
    """Of users, records, and noise."""

    def __post_init__(self) -> None:
        if self.pretrain_share + self.validation_share + self.test_share >= 1:
            raise ConfigError(
                "benchmark: pretrain_share, validation_share and test_share leave no users to "
                "train on",
                "benchmark.pretrain_share=0.4 benchmark.validation_share=0.1 "
                "benchmark.test_share=0.1",
            )
        if self.data_dir is not None:
            object.__setattr__(self, "source", self.source.in_folder(self.data_dir))

    @cached_property
    def _data(self) -> Interactions:
        return self.source.read().popular(self.items)

    @cached_property
    def users(self) -> list[int]:
        """Users whom there are questions to."""
        return list(self._data.users)

    @cached_property
    def _split(self) -> dict[Split, tuple[int, ...]]:
        shares: dict[Split, float] = {
            "pretrain": self.pretrain_share,
            "validation": self.validation_share,
            "test": self.test_share,
        }
        shares["train"] = 1 - sum(shares.values())
        return split_users(self.users, shares, self.seed)

    @abstractmethod
    def records(self, split: Split, each: int) -> Sequence[Question]:
        """Returns the records of a split, as they should be, up to so many of each user."""

    def right(self, split: str) -> Sequence[QA]:
        """Returns the rows of a split's users."""
        each = 1 if split in (TEST, VALIDATION) else self.each
        return [record.row(self._data) for record in self.records(cast(Split, split), each)]

    @property
    def corrects(self) -> bool:
        """Whether there is noise."""
        return self.noise is not None

    def wrong(self) -> Mapping[int, QA]:
        """Returns the corrupted records, by place among the training records."""
        data, clean, noise = self._data, self.records("train", self.each), self.noise
        # A history of three that loses one would be too short.
        may = [i for i, r in enumerate(clean) if noise != "remove_last" or len(r.history) > 3]
        chosen = drawn(may, self.noise_share, len(clean), self.seed)
        seen = {
            i: clean[i].corrupted(noise, data, self.seed) if noise else clean[i] for i in chosen
        }
        return {i: record.row(data) for i, record in seen.items()}

    def told(self, draws: int) -> dict[str, Metric]:
        """Returns the metrics by name, told the possible answers of the rows.

        Args:
            draws: Rows of each test record.
        """
        return {name: metric.told(self._candidates, draws) for name, metric in self.metric.items()}

    @cached_property
    def _candidates(self) -> dict[str, tuple[tuple[str, ...], ...]]:
        return {
            name: tuple((row.answer, *row.perturbed_answers) for row in rows)
            for name, (view, rows) in self.views().items()
            if "generations" in view.probes
        }


@dataclass(frozen=True)
class Recommendation(FromInteractions):
    """Sequential recommendation as text (LLaRA's task): the next item among candidates."""

    candidates: Annotated[int, Ge(2), Le(1000)] = 20
    """Items to choose from, the right one included."""
    draws: Annotated[int, Ge(1), Le(100)] = 5
    """How often candidates are drawn for each test record."""
    pretrain_draws: Annotated[int, Ge(1), Le(1000)] = 1
    """And for each pre-training record: a small base that sees others than the ones it learnt by
    heart learns what comes next. LLaRA draws anew at every access."""

    def records(self, split: Split, each: int) -> Sequence[Question]:
        """Returns the records; of test and pre-training once for each draw of candidates."""
        found: list[Question] = []
        draws = {TEST: self.draws, "pretrain": self.pretrain_draws}
        for draw in range(draws.get(split, 1)):
            found += records(
                self._data,
                self._split[split],
                history=self.history,
                candidates=self.candidates,
                each=each,
                seed=self.seed + 1_000_003 * draw,
            )
        return found

    @property
    def metrics(self) -> dict[str, Metric]:
        """Metrics by name, told the candidates of the rows."""
        return self.told(self.draws)


@dataclass(frozen=True)
class Preferences(FromInteractions):
    """Whether a reader likes a book, by those read before (TALLRec's task): yes or no."""

    most_users: Annotated[int, Ge(10)] | None = None
    """Only so many users, drawn by the seed; null is all who rated four books or more."""

    @cached_property
    def users(self) -> list[int]:
        """Users with a history and one more book.

        Raises:
            ConfigError: If the source does not say what anybody likes.
        """
        if not self._data.liked:
            raise ConfigError(
                "benchmark.source says of no rating whether it is a like, which is asked for here",
                "benchmark=bookcrossing benchmark.data_dir=FOLDER",
            )
        found = sorted(u for u, seen in self._data.users.items() if len(seen) > MIN_HISTORY)
        most = min(self.most_users or len(found), len(found))
        return random.Random(f"most_users:{self.seed}").sample(found, most)

    def records(self, split: Split, each: int) -> Sequence[Question]:
        """Returns the records."""
        users, order = self._split[split], self.seed
        return preferences(self._data, users, history=self.history, each=each, seed=order)

    @property
    def metrics(self) -> dict[str, Metric]:
        """Metrics by name, told the two answers of every row."""
        return self.told(1)
