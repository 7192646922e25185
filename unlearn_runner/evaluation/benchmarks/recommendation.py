"""Recommendation: the next item among candidates, some training records of which are corrupted.

The target is trained on the corrupted records. The request is to correct them, or to remove them:
`forget` are those records as the target saw them, `corrected` as they should have been.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Literal

from annotated_types import Ge, Gt, Le, Lt

from unlearn_runner.data.recommendation.interactions import Interacted, Interactions
from unlearn_runner.data.recommendation.records import (
    Noise,
    Record,
    Split,
    corrupted,
    records,
    split_users,
)
from unlearn_runner.data.rows import QA, Rows
from unlearn_runner.errors import ConfigError
from unlearn_runner.evaluation.benchmarks.base import Benchmark, Splits
from unlearn_runner.evaluation.metrics.base import Metric
from unlearn_runner.evaluation.schema import View

Share = Annotated[float, Ge(0), Lt(1)]
TEST, VALIDATION, FORGET, CORRECTED = "test", "validation", "forget", "corrected"


@dataclass(frozen=True)
class Recommendation(Benchmark):
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

    @cached_property
    def _pairs(self) -> dict[int, tuple[Record, Record]]:
        """By place among training records: a corrupted one, and what it should have been."""
        clean = self._records("train", self.each)
        # A history of three that loses one would be too short.
        may = [i for i, r in enumerate(clean) if self.noise != "remove_last" or len(r.history) > 3]
        wanted = max(1, int(self.noise_share * len(clean)))
        chosen = random.Random(f"corrupted:{self.seed}").sample(may, min(wanted, len(may)))
        kind: Noise = self.noise
        return {
            i: (corrupted(clean[i], kind, self._data, self.seed), clean[i]) for i in sorted(chosen)
        }

    def _rows(self, name: str, found: list[Record]) -> Rows:
        return Rows(name, tuple(record.row(self._data.titles) for record in found))

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

    def splits(self) -> Splits:
        """Returns the training rows: all as the target sees them, those in question, the others."""
        clean, pairs = self._records("train", self.each), self._pairs
        seen = [pairs[i][0] if i in pairs else record for i, record in enumerate(clean)]
        return Splits(
            full=self._rows("train", seen),
            forget=self._rows(FORGET, [old for old, _ in pairs.values()]),
            retain=self._rows("untouched", [r for i, r in enumerate(clean) if i not in pairs]),
            pretrain=self._rows("pretrain", self._records("pretrain", self.each)),
            corrected=self._rows(CORRECTED, [new for _, new in pairs.values()]),
        )

    def views(self) -> dict[str, tuple[View, Rows]]:
        """Returns the test rows, once for each draw of candidates, and the request's own."""
        test = [r for draw in range(self.draws) for r in self._records("test", 1, draw)]
        splits = self.splits()
        assert splits.corrected is not None
        only = ("logprobs",)
        return {
            TEST: (View(TEST), self._rows(TEST, test)),
            VALIDATION: (
                View(VALIDATION, probes=only),
                self._rows(VALIDATION, self._records("validation", 1)),
            ),
            FORGET: (View(FORGET, "forget", probes=only), _answers_only(splits.forget)),
            CORRECTED: (View(CORRECTED, probes=only), _answers_only(splits.corrected)),
        }


def _answers_only(rows: Rows) -> Rows:
    """Returns rows without what else might have been answered, which then is not scored."""
    return Rows(rows.name, tuple(QA(row.question, row.answer) for row in rows))
