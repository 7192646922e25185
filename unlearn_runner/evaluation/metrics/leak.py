"""leak@k: the best of k sampled answers, as an attacker who asks k times would have it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from annotated_types import Ge, Le

from unlearn_runner.evaluation.metrics.base import Metric, MetricInputs, Sample, known_mean, scored
from unlearn_runner.evaluation.metrics.evidence import Evidence, Floats
from unlearn_runner.evaluation.metrics.rouge import rouge_l_recall
from unlearn_runner.evaluation.schema import Goal


def expected_best(values: Floats, k: int) -> Floats:
    """Returns the mean of the largest of k values over all choices of k of n; [rows, n] -> [rows].

    Unbiased for k fresh samples, as is pass@k (Chen et al. 2021, arXiv 2107.03374), which it is of
    values 0 and 1: the i-th smallest is the largest of C(i - 1, k - 1) of C(n, k) choices.
    """
    n = values.shape[1]
    shares = [math.comb(i - 1, k - 1) / math.comb(n, k) for i in range(1, n + 1)]
    return np.sort(values, axis=1) @ np.array(shares)


@dataclass(frozen=True)
class Leak(Metric):
    """Expected best ROUGE-L recall among k sampled answers (arXiv 2511.04934).

    Scores are `<view>.<name>_1`, `_2`, `_4`, ... up to the number of samples; call it `leak_at`. Of
    views with the probe `samples`.
    """

    threshold: Annotated[float, Ge(0), Le(1)] | None = None
    """Count an answer as leaked, 1 or 0, from this recall on; null takes the recall itself."""

    def score(self, name: str, inputs: MetricInputs) -> dict[str, float | None]:
        """Returns a score for each view and k."""
        found = self._by_k(name, inputs.model)
        return {f"{view}.{key}": known_mean(rows) for view, key, rows in found}

    def sampled(self, name: str, sample: Sample) -> dict[str, Floats]:
        """Returns the same in every bootstrap sample of people."""
        found = self._by_k(name, sample.model)
        return {f"{view}.{key}": sample.mean(view, rows) for view, key, rows in found}

    def _by_k(self, name: str, evidence: Evidence) -> Iterator[tuple[str, str, Floats]]:
        for view in filter(scored, evidence.views.values()):
            samples, texts = view.record.samples, view.record.texts
            if not samples or texts is None:
                continue
            number = min(map(len, samples))
            pairs = zip(samples, texts.answers, strict=True)
            recalls = np.array([rouge_l_recall(s[:number], [a] * number) for s, a in pairs])
            if self.threshold is not None:
                leaked = np.where(recalls >= self.threshold, 1.0, 0.0)
                recalls = np.where(np.isnan(recalls), np.nan, leaked)
            for k in (2**i for i in range(number.bit_length())):
                yield view.name, f"{name}_{k}", expected_best(recalls, k)

    def higher_is_better(self, score: str, goal: Goal | None) -> bool:
        """Returns false on rows to be forgotten."""
        return goal != "forget"
