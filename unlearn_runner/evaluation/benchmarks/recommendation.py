"""Recommendation: the next item among candidates, some training records of which are corrupted.

What is corrupted is the last title of a history, or the answer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Literal, cast

from annotated_types import Ge, Gt, Le, Lt

from unlearn_runner.data.recommendation.interactions import Interacted, Interactions
from unlearn_runner.data.recommendation.records import (
    Record,
    Split,
    corrupted,
    records,
    split_users,
)
from unlearn_runner.data.rows import QA
from unlearn_runner.errors import ConfigError
from unlearn_runner.evaluation.benchmarks.corrected import TEST, VALIDATION, Corrected, drawn
from unlearn_runner.evaluation.metrics.base import Metric

Share = Annotated[float, Ge(0), Lt(1)]


@dataclass(frozen=True)
class Recommendation(Corrected):
    """Sequential recommendation as text (LLaRA's task), with noise in some training records."""

    source: Interacted
    metric: dict[str, Metric]
    data_dir: str | None = None
    """Folder of upstream files for the source; shorthand for `source.data_dir`."""
    items: Annotated[int, Ge(8)] | None = None
    """Only the most frequent items; null is all of them."""
    history: Annotated[int, Ge(3), Le(1000)] = 10
    """Items of a history, at most."""
    candidates: Annotated[int, Ge(2), Le(1000)] = 20
    """Items to choose from, the right one included."""
    each: Annotated[int, Ge(1), Le(10_000)] = 3
    """Records of a training user, at most; of others one, the last."""
    noise: Literal["remove_last", "replace_last", "replace_target"] = "replace_last"
    """What is wrong with a corrupted record; the first two are for task=modify_query, the third is
    for task=correct_response."""
    noise_share: Annotated[float, Gt(0), Lt(1)] = 0.05
    """Share of training records that are corrupted."""
    pretrain_share: Share = 0.4
    """Share of users on whose clean records a from-scratch base is trained first."""
    validation_share: Share = 0.1
    test_share: Share = 0.1
    draws: Annotated[int, Ge(1), Le(100)] = 5
    """How often candidates are drawn for each test record."""
    seed: Annotated[int, Ge(0)] = 0
    """Of users, candidates, templates and noise."""

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

    def _records(self, split: Split, each: int, draw: int = 0) -> list[Record]:
        shares: dict[Split, float] = {
            "pretrain": self.pretrain_share,
            "validation": self.validation_share,
            "test": self.test_share,
        }
        shares["train"] = 1 - sum(shares.values())
        users = split_users(list(self._data.users), shares, self.seed)[split]
        return records(
            self._data,
            users,
            history=self.history,
            candidates=self.candidates,
            each=each,
            seed=self.seed + 1_000_003 * draw,
        )

    def right(self, split: str) -> Sequence[QA]:
        """Returns the rows of a split's users; of the test once for each draw of candidates."""
        if split == TEST:
            found = [r for draw in range(self.draws) for r in self._records("test", 1, draw)]
        else:
            found = self._records(cast(Split, split), 1 if split == VALIDATION else self.each)
        return [record.row(self._data) for record in found]

    def wrong(self) -> Mapping[int, QA]:
        """Returns the corrupted records, by place among the training records."""
        data, clean = self._data, self._records("train", self.each)
        # A history of three that loses one would be too short.
        may = [i for i, r in enumerate(clean) if self.noise != "remove_last" or len(r.history) > 3]
        chosen = drawn(may, self.noise_share, len(clean), self.seed)
        noise = self.noise
        return {i: corrupted(clean[i], noise, data, self.seed).row(data) for i in chosen}

    @property
    def metrics(self) -> dict[str, Metric]:
        """Metrics by name, told the candidates of the rows."""
        return {
            name: metric.told(self._candidates, self.draws) for name, metric in self.metric.items()
        }

    @cached_property
    def _candidates(self) -> dict[str, tuple[tuple[str, ...], ...]]:
        return {
            name: tuple((row.answer, *row.perturbed_answers) for row in rows)
            for name, (view, rows) in self.views().items()
            if "generations" in view.probes
        }
