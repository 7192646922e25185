"""Extra splits of a step: rows with alternative answers (refusals, alternates), tails of answers.

Which alternative goes with a visit is a function of (seed, epoch, row) like every other draw.
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
    """Alternative answers to the questions of one split, encoded when they are first drawn.

    Args:
        texts: Per row, the answers to choose from.
        encode: Turns a row's question with another answer into tokens.
        start_logprobs: Of the start model by (row, choice), where a loss reads them.
    """

    texts: Sequence[Sequence[str]]
    encode: Callable[[int, str], Encoded]
    start_logprobs: Mapping[tuple[int, int], np.ndarray[Any, Any]] | None = None
    cache: dict[tuple[int, int], Encoded] = field(default_factory=dict)

    def __call__(self, row: int, choice: int) -> Encoded:
        """Returns the row's question with the chosen answer."""
        key = (row, choice)
        if key not in self.cache:
            encoded = self.encode(row, self.texts[row][choice])
            if self.start_logprobs is not None:
                encoded = replace(encoded, start_logprob=np.asarray(self.start_logprobs[key]))
            self.cache[key] = encoded
        return self.cache[key]


@dataclass(frozen=True)
class ExtraSplits:
    """Splits that some methods need besides `forget` and `retain`; a `StepLoader.add_splits`.

    Adds `refusal`, the forget questions with alternative answers; `mixed`, those and the retain
    rows; `tail`, forget rows whose answers begin `skip` tokens later. Rows of `forget` and `retain`
    carry their alternative answers.
    """

    forget: AlternativeAnswers | None = None
    retain: AlternativeAnswers | None = None
    skip: int = 0

    def __call__(self, sampler: Sampler, visits: list[tuple[int, int]], splits: Splits) -> None:
        """Adds to the splits of a step, in place."""
        if self.skip:
            splits["tail"] = _tails(splits["forget"], self.skip)
        if self.forget is not None:
            drawn = []
            for epoch, row in visits:
                count = len(self.forget.texts[row])
                drawn.append(self.forget(row, sampler.alternative("forget", epoch, row, count)))
            pairs = zip(splits["forget"], drawn, strict=True)
            splits["forget"] = [replace(row, other=other) for row, other in pairs]
            splits["refusal"] = drawn
            splits["mixed"] = [*drawn, *splits.get("retain", [])]
        if self.retain is not None:
            paired = []
            for (epoch, row), retained in zip(visits, splits["retain"], strict=True):
                partner = sampler.retain_partner(epoch, row)
                count = len(self.retain.texts[partner])
                choice = sampler.alternative("retain", epoch, row, count)
                paired.append(replace(retained, other=self.retain(partner, choice)))
            splits["retain"] = paired


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
