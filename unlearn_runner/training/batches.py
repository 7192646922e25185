"""Which rows make up an optimizer step, and how they are cut into micro-batches.

Every draw is a function of (seed, stage, epoch, row) alone: not of the number of ranks, of the
micro-batch, or of how often a run was interrupted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
import torch

from unlearn_runner.data.encode import Batch, Encoded, collate
from unlearn_runner.distributed.ranks import ALONE, Ranks
from unlearn_runner.methods.losses import Unit

ORDER, PARTNER, NOISE = 1, 2, 3  # separate streams of draws
ALTERNATIVE = {"forget": 4, "retain": 5}

Splits = dict[str, list[Encoded]]


@dataclass(frozen=True)
class Sampler:
    """Order of `num_rows` rows over epochs, and a partner row for each visit."""

    seed: int
    num_rows: int
    batch_size: int
    num_retain: int = 0

    def step(self, step: int) -> list[tuple[int, int]]:
        """Returns the (epoch, row) visits of an optimizer step; batches run across epoch ends."""
        visits = range(step * self.batch_size, (step + 1) * self.batch_size)
        places = (divmod(visit, self.num_rows) for visit in visits)
        return [(e, int(_permutation(self.seed, e, self.num_rows)[place])) for e, place in places]

    def retain_partner(self, epoch: int, row: int) -> int:
        """Returns the retain row that goes with a visit: a uniform draw, anew each epoch."""
        generator = np.random.default_rng([self.seed, PARTNER, epoch, row])
        return int(generator.integers(self.num_retain))

    def alternative(self, split: str, epoch: int, row: int, count: int) -> int:
        """Returns which of `count` alternative answers goes with the visit of a row.

        They are the row's own when the split is "forget", its partner's when it is "retain".
        """
        generator = np.random.default_rng([self.seed, ALTERNATIVE[split], epoch, row])
        return int(generator.integers(count))

    def step_seed(self, step: int, rank: int = 0) -> int:
        """Returns the seed of everything else that is random in an optimizer step, on one rank."""
        entropy = [self.seed, NOISE, step, *([rank] if rank else [])]
        return int(np.random.SeedSequence(entropy).generate_state(1)[0])


@lru_cache(maxsize=4)
def _permutation(seed: int, epoch: int, num_rows: int) -> np.ndarray:
    return np.random.default_rng([seed, ORDER, epoch]).permutation(num_rows)


@dataclass(frozen=True)
class MicroBatch:
    """One micro-batch of a split."""

    batch: Batch
    is_filler: bool
    """Whether the rank has no rows left and computes, without effect, with one of another rank."""
    last: bool
    """Whether it is the last one of its split in this step."""


@dataclass(frozen=True)
class StepRows:
    """The rows of one optimizer step, by split."""

    splits: Splits

    def count(self, split: str, unit: Unit) -> int:
        """Returns what a loss sum over the whole step is divided by."""
        rows = self.splits[split]
        if unit == "position":
            return sum(len(row.ids) for row in rows)
        return sum(row.num_labels for row in rows) if unit == "token" else len(rows)

    @property
    def num_tokens(self) -> int:
        """Number of tokens of all splits, prompts included."""
        return sum(len(row.ids) for rows in self.splits.values() for row in rows)

    def micro(
        self,
        split: str,
        micro_batch: int | None,
        pad: int,
        device: torch.device,
        ranks: Ranks = ALONE,
    ) -> Iterator[MicroBatch]:
        """Yields a rank's share of a split in micro-batches.

        Sorted by length, so that little of them is padding and the ranks have equal work. Every
        rank gets equally many, since a model in shards is computed by all ranks together.
        """
        rows = sorted(self.splits[split], key=lambda row: len(row.ids))
        mine, largest_share = ranks.shard(rows), -(-len(rows) // ranks.world)
        size = micro_batch or largest_share
        for start in range(0, largest_share, size):
            chosen = mine[start : start + size]
            batch = collate(chosen or rows[:1], pad, device)
            yield MicroBatch(batch, is_filler=not chosen, last=start + size >= largest_share)


@dataclass(frozen=True)
class StepLoader:
    """Loader of the rows of each optimizer step of a training stage."""

    split: str
    """Name of the split that epochs go through: "forget" or "train"."""
    rows: Sequence[Encoded]
    """Rows of that split."""
    batch_size: int
    """Rows per optimizer step."""
    seed: int
    """Seed of order and partners."""
    retain: Sequence[Encoded] = ()
    """Retain rows, of which each visit gets one as its partner; may be empty."""
    add_splits: Callable[[Sampler, list[tuple[int, int]], Splits], None] | None = None
    """Adds the splits that a method needs besides, given the step's visits: `ExtraSplits`."""

    @cached_property
    def sampler(self) -> Sampler:
        """Order of the rows, and their partners."""
        return Sampler(self.seed, len(self.rows), self.batch_size, len(self.retain))

    def step(self, step: int) -> StepRows:
        """Returns the rows of an optimizer step."""
        visits = self.sampler.step(step)
        splits = {self.split: [self.rows[row] for _, row in visits]}
        if self.retain:
            splits["retain"] = [self.retain[self.sampler.retain_partner(*v)] for v in visits]
        if self.add_splits is not None:
            self.add_splits(self.sampler, visits, splits)
        return StepRows(splits)
