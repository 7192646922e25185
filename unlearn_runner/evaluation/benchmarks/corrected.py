"""Benchmarks some of whose training rows are wrong, and that know what they should have been.

The target is trained on the rows as they are. The request is to correct the wrong ones, or to
remove them: `forget` are those rows as the target saw them, `corrected` as they should have been.
Or nothing is wrong with them, and they are just to go.
"""

from __future__ import annotations

import random
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from unlearn_runner.data.rows import QA, Rows
from unlearn_runner.evaluation.benchmarks.base import Benchmark, Splits
from unlearn_runner.evaluation.schema import View

TEST, VALIDATION, FORGET, CORRECTED = "test", "validation", "forget", "corrected"


@dataclass(frozen=True)
class Corrected(Benchmark):
    """Base class of such benchmarks."""

    @abstractmethod
    def right(self, split: str) -> Sequence[QA]:
        """Returns rows as they should be: of "pretrain", "train", "validation" or "test"."""

    @abstractmethod
    def wrong(self) -> Mapping[int, QA]:
        """Returns what stands in the place of some rows of "train", by place in rising order."""

    @property
    def corrects(self) -> bool:
        """Whether anything is wrong with the rows in question; else they just go."""
        return True

    def splits(self) -> Splits:
        """Returns the training rows: all as the target sees them, those in question, the others."""
        right, wrong = self.right("train"), self.wrong()
        new = Rows(CORRECTED, tuple(right[i] for i in wrong))
        seen = [wrong.get(i, row) for i, row in enumerate(right)]
        return Splits(
            full=Rows("train", tuple(seen)),
            forget=Rows(FORGET, tuple(wrong.values())),
            retain=Rows("untouched", tuple(r for i, r in enumerate(right) if i not in wrong)),
            pretrain=Rows("pretrain", tuple(self.right("pretrain"))),
            corrected=new if self.corrects else None,
        )

    def views(self) -> dict[str, tuple[View, Rows]]:
        """Returns the test rows, the validation rows, and the request's own."""
        splits = self.splits()
        only = ("logprobs",)
        found = {
            TEST: (View(TEST), Rows(TEST, tuple(self.right(TEST)))),
            VALIDATION: (
                View(VALIDATION, probes=only),
                Rows(VALIDATION, tuple(self.right(VALIDATION))),
            ),
            FORGET: (View(FORGET, "forget", probes=only), _answers_only(splits.forget)),
        }
        if splits.corrected is not None:
            view = View(CORRECTED, probes=only)
            found[CORRECTED] = (view, _answers_only(splits.corrected))
        return found


def drawn(places: Sequence[int], share: float, total: int, seed: int) -> list[int]:
    """Returns which of the places that may be corrupted are, rising: a share of `total`, or one."""
    wanted = max(1, int(share * total))
    return sorted(random.Random(f"corrupted:{seed}").sample(places, min(wanted, len(places))))


def _answers_only(rows: Rows) -> Rows:
    """Returns rows without what else might have been answered, which then is not scored."""
    return Rows(rows.name, tuple(replace(row, perturbed_answers=()) for row in rows))
