"""Token entropy: how varied the words of a generated answer are (Yuan et al. 2025, closer-look)."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np

from unlearn_runner.evaluation.metrics.base import ViewMetric
from unlearn_runner.evaluation.metrics.evidence import Floats, ViewEvidence


def entropy(items: Sequence[Hashable]) -> float:
    """Returns the entropy of the items' frequencies, in bits; 0 of none."""
    shares = [count / len(items) for count in Counter(items).values()]
    return -math.fsum(share * math.log2(share) for share in shares)


def token_entropy(text: str) -> float:
    """Returns the entropy of a text's words over its maximum, log2 of their number.

    1 where no word is repeated, near 0 for one word over and over, 0 for an empty text. A single
    word, where the published quotient is 0/0, is 1. Words are those of ROUGE (`words.words`).
    """
    from unlearn_runner.evaluation.metrics.words import words

    found = words(text)
    if len(found) < 2:
        return float(len(found))
    return entropy(found) / math.log2(len(found))


@dataclass(frozen=True)
class TokenEntropy(ViewMetric):
    """Mean token entropy of generated answers."""

    def of_rows(self, view: ViewEvidence) -> Floats | None:
        """Returns each generation's entropy."""
        texts = view.record.texts
        return None if texts is None else np.array([token_entropy(t) for t in texts.generations])
