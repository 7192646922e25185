"""Source of the pocket benchmark's rows, which are generated on the spot."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Annotated

from annotated_types import Ge, Le

from unlearn_runner.data.checks import checked
from unlearn_runner.data.pocket import Wording, generate
from unlearn_runner.data.rows import Rows
from unlearn_runner.data.sources import Source
from unlearn_runner.errors import DataError, listed, nearest

_splits = cache(generate)  # a plan reads a dozen splits


@dataclass(frozen=True)
class People(Source):
    """Fictitious people in TOFU's schema; see `unlearn_runner.data.pocket`."""

    seed: Annotated[int, Ge(0)] = 0
    people: Annotated[int, Ge(20), Le(400)] = 40
    questions: Annotated[int, Ge(1), Le(12)] = 10
    wording: Wording = "varied"

    def read(self, split: str) -> Rows:
        """Returns the generated rows of `split`."""
        splits = _splits(self.seed, self.people, self.questions, self.wording)
        if split not in splits:
            raise DataError(
                f"the pocket benchmark has no split {split}; it has {listed(splits)}",
                f"{nearest(split, splits) or 'one of these'} in place of {split}",
            )
        rows = enumerate(splits[split], 1)
        return Rows(split, tuple(checked(row, f"pocket/{split} row {i}") for i, row in rows))
