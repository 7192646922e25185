"""Fixed samples of rows, each passed once, as the rows of one step: what is measured, not trained.

Training draws retain partners with replacement; here every chosen row counts once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from unlearn_runner.data.encode import Encoded
from unlearn_runner.training.alternatives import ExtraSplits
from unlearn_runner.training.batches import Sampler, Splits, StepRows

SAMPLE = 6
"""A stream of draws of its own; see `training.batches`."""


def sample_rows(seed: int, split: str, rows: int, size: int) -> list[int]:
    """Returns a fixed sample of the rows of a split, in their order; all where `size` is enough."""
    if size >= rows:
        return list(range(rows))
    generator = np.random.default_rng([seed, SAMPLE, split == "retain"])
    return sorted(map(int, generator.choice(rows, size, replace=False)))


def audit_rows(split: str, rows: Sequence[Encoded], count: int, seed: int) -> StepRows:
    """Returns a fixed sample of a split, on which a loss is measured along the way.

    Not `sample_rows`: a measurement of G-effects and an audit in one run are of different rows.
    """
    drawn = np.random.default_rng([seed, SAMPLE]).permutation(len(rows))[:count]
    return StepRows({split: [rows[row] for row in sorted(drawn)]})


@dataclass(frozen=True)
class _Chosen(Sampler):
    """Sampler whose n-th retain partner is the n-th of some chosen rows."""

    partners: tuple[int, ...] = ()

    def retain_partner(self, epoch: int, row: int) -> int:
        """Returns the chosen row."""
        return self.partners[row]


def fixed_rows(
    seed: int,
    forget: Sequence[Encoded],
    retain: Sequence[Encoded],
    chosen: tuple[Sequence[int], Sequence[int]],
    extra: ExtraSplits,
) -> StepRows:
    """Returns chosen rows, with all that a method's terms read, as the rows of one step.

    Other answers (refusals, alternates) are those of a run's first epoch.

    Args:
        seed: Of the run.
        forget: All forget rows.
        retain: All retain rows.
        chosen: Which forget and which retain rows.
        extra: What is added to the two splits.
    """
    ours, theirs = chosen
    splits: Splits = {"forget": [forget[i] for i in ours], "retain": [retain[i] for i in theirs]}
    sampler = _Chosen(seed, len(forget), len(ours), len(retain), tuple(theirs))
    of_forget = ExtraSplits(extra.forget, None, extra.skip)
    of_forget(sampler, [(0, i) for i in ours], splits)
    ExtraSplits(None, extra.retain)(sampler, [(0, i) for i in range(len(theirs))], splits)
    return StepRows(splits)
