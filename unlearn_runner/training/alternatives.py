"""The further splits of a step: refusals or alternates beside the rows, and tails of answers.

Which other answer goes with a visit is a function of (seed, epoch, row) like every other draw.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from unlearn_runner.data.encode import Encoded
from unlearn_runner.errors import DataError
from unlearn_runner.training.batches import Sampler, Splits


@dataclass
class AlternativeAnswers:
    """Other answers to the questions of one split, encoded when they are first drawn.

    Args:
        texts: Per row, the answers to choose from.
        encode: Turns a row's question with another answer into tokens.
        start: Start log-probabilities by (row, choice), where a loss reads them.
    """

    texts: Sequence[Sequence[str]]
    encode: Callable[[int, str], Encoded]
    start: Mapping[tuple[int, int], np.ndarray[Any, Any]] | None = None
    known: dict[tuple[int, int], Encoded] = field(default_factory=dict)

    def __call__(self, row: int, choice: int) -> Encoded:
        """Returns the row's question with the chosen answer."""
        place = (row, choice)
        if place not in self.known:
            encoded = self.encode(row, self.texts[row][choice])
            if self.start is not None:
                encoded = replace(encoded, start_logprob=np.asarray(self.start[place]))
            self.known[place] = encoded
        return self.known[place]


@dataclass(frozen=True)
class ExtraSplits:
    """What a feed adds to the rows of a step.

    Splits: `refusal`, the forget questions with other answers; `mixed`, those and the retain rows;
    `tail`, forget rows whose answers begin `skip` tokens later. Rows of `forget` and `retain` carry
    their other answers.
    """

    forget: AlternativeAnswers | None = None
    retain: AlternativeAnswers | None = None
    skip: int = 0

    def __call__(self, sampler: Sampler, visits: list[tuple[int, int]], splits: Splits) -> None:
        """Adds to `splits`."""
        if self.skip:
            splits["tail"] = _tails(splits["forget"], self.skip)
        if self.forget is not None:
            drawn = [self.forget(*self.choice(sampler, *visit)) for visit in visits]
            pairs = zip(splits["forget"], drawn, strict=True)
            splits["forget"] = [replace(row, other=other) for row, other in pairs]
            splits["refusal"] = drawn
            splits["mixed"] = [*drawn, *splits.get("retain", [])]
        if self.retain is not None:
            found = []
            for (epoch, row), kept in zip(visits, splits["retain"], strict=True):
                partner = sampler.retain_partner(epoch, row)
                choice = sampler.other("retain", epoch, row, len(self.retain.texts[partner]))
                found.append(replace(kept, other=self.retain(partner, choice)))
            splits["retain"] = found

    def choice(self, sampler: Sampler, epoch: int, row: int) -> tuple[int, int]:
        """Returns the row of a visit and which of its other answers goes with it."""
        assert self.forget is not None
        return row, sampler.other("forget", epoch, row, len(self.forget.texts[row]))


def _tails(rows: list[Encoded], skip: int) -> list[Encoded]:
    """Returns rows scored from `skip` answer tokens on; those that have no more are left out."""
    longer = [row for row in rows if row.num_labels > skip]
    if not longer:
        raise DataError(
            f"no answer of this batch is longer than the {skip} tokens that are left out",
            "method.ignore_first=1",
        )
    return [
        replace(row, prompt_length=row.prompt_length + skip, start_logprob=None) for row in longer
    ]
