"""Fluency of generated answers without a classifier: entropy of pairs and triples of words.

The measure of ROME and MEMIT (Meng et al. 2022), which RWKU uses: a text that repeats itself has
few different n-grams. It grows with the length of the text, so only answers to equal questions
compare, and gibberish of ever new words is not seen. `RecordedFluency` is a classifier's
probability of clean text, where `evaluate.classifier` was asked, or a log recorded it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from unlearn_runner.evaluation.metrics.base import ViewMetric, known_mean
from unlearn_runner.evaluation.metrics.evidence import CLEAN, Floats, ViewEvidence
from unlearn_runner.evaluation.metrics.text.entropy import entropy

WEIGHTS = {2: 2 / 3, 3: 4 / 3}
"""Of the published code, by n; their mean is 1."""


def ngram_entropy(text: str) -> float:
    """Returns the weighted mean entropy of the n-grams of a text's words, in bits; 0 where none."""
    from unlearn_runner.evaluation.metrics.words import words

    found = words(text)  # the published code asks NLTK's tokenizer, which is a download
    each = [weight * entropy(_ngrams(found, n)) for n, weight in WEIGHTS.items()]
    return sum(each) / len(each)


def _ngrams(items: Sequence[str], n: int) -> list[tuple[str, ...]]:
    return list(zip(*(items[i:] for i in range(n)), strict=False))


@dataclass(frozen=True)
class Fluency(ViewMetric):
    """Mean n-gram entropy of generated answers."""

    def of_rows(self, view: ViewEvidence) -> Floats | None:
        """Returns each generation's entropy."""
        texts = view.record.texts
        return None if texts is None else np.array([ngram_entropy(t) for t in texts.generations])


@dataclass(frozen=True)
class RecordedFluency(ViewMetric):
    """Mean probability of clean text by a classifier: the probe `clean`, or as a log recorded it.

    Higher is better, although open-unlearning's logs call it `forget_Q_A_gibberish`.
    """

    def of_rows(self, view: ViewEvidence) -> Floats | None:
        """Returns each generation's probability."""
        return view.recorded(CLEAN)

    def of_view(self, view: ViewEvidence) -> float | None:
        """Returns the mean over rows that have one."""
        return known_mean(self.of_rows(view))
