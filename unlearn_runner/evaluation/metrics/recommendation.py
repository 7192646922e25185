"""Metrics of recommendation: valid answers, hits, and the area under the curve of yes and no."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import ClassVar

import numpy as np

from unlearn_runner.evaluation.metrics.base import (
    Candidates,
    Categories,
    Metric,
    MetricInputs,
    ViewMetric,
)
from unlearn_runner.evaluation.metrics.evidence import Floats, ViewEvidence

Z = 1.959963984540054


def chosen(generation: str, candidates: Sequence[str]) -> str | None:
    """Returns the candidate that an answer names: the only one found in its first line, or none.

    As LLaRA and LLMEraser decide it: lower case, as a part of the text. A title within a longer
    one makes an answer invalid.
    """
    first = generation.strip().split("\n", 1)[0].lower()
    found = [name for name in candidates if name.lower() in first]
    return found[0] if len(found) == 1 else None


def wilson(hits: float, total: float) -> tuple[float, float]:
    """Returns the 95 % interval of a share (Wilson 1927)."""
    if not total:
        return 0.0, 1.0
    p, z2 = hits / total, Z * Z / total
    middle, half = p + z2 / 2, Z * math.sqrt(p * (1 - p) / total + z2 / (4 * total))
    return (middle - half) / (1 + z2), (middle + half) / (1 + z2)


def yes_score(yes: float, no: float, double: bool = False) -> float:
    """Returns the score of "yes" from two probabilities: its share of both.

    `double` is TALLRec's: a softmax of the probabilities, which orders rows in another way.
    """
    return 1 / (1 + math.exp(no - yes)) if double else yes / (yes + no)


def auc(scores: Sequence[float], positive: Sequence[bool]) -> float | None:
    """Returns the share of pairs of a positive and a negative row in the right order; ties half."""
    right = np.array([s for s, p in zip(scores, positive, strict=True) if p])
    wrong = np.array([s for s, p in zip(scores, positive, strict=True) if not p])
    if not len(right) or not len(wrong):
        return None
    above = right[:, None] - wrong[None]
    return float(((above > 0) + 0.5 * (above == 0)).mean())


@dataclass(frozen=True)
class Hits(Metric):
    """Share of rows whose generated answer names the right one of the candidates.

    With a Wilson interval of as many rows as there are records, however often candidates were drawn
    for each. `_valid` is the share of answers that name exactly one candidate, `_at_1` that of hits
    among those (HitRatio@1).
    """

    def told(
        self,
        candidates: Mapping[str, Candidates],
        draws: int,
        categories: Categories = MappingProxyType({}),
    ) -> Metric:
        """Returns the metric that counts."""
        return CountedHits(candidates, draws)

    def score(self, name: str, inputs: MetricInputs) -> dict[str, float | None]:
        """Returns nothing: the candidates are not known."""
        return {}


@dataclass(frozen=True)
class CountedHits(Hits):
    """Hits among known candidates."""

    candidates: Mapping[str, Candidates]
    draws: int

    def counts(self, view: ViewEvidence) -> tuple[int, int, int] | None:
        """Returns hits, valid answers and rows; none of a view without candidates or texts."""
        texts, candidates = view.record.texts, self.candidates.get(view.name)
        if texts is None or candidates is None:
            return None
        keys = range(view.rows) if view.keys is None else view.keys
        rows = zip(keys, texts.generations, texts.answers, strict=True)
        named = [(chosen(text, candidates[key]), answer) for key, text, answer in rows]
        valid = [(name, answer) for name, answer in named if name is not None]
        return sum(name == answer for name, answer in valid), len(valid), len(named)

    def score(self, name: str, inputs: MetricInputs) -> dict[str, float | None]:
        """Returns five numbers for every view with candidates."""
        found: dict[str, float | None] = {}
        for view in inputs.model.views.values():
            if (counts := self.counts(view)) is None:
                continue
            hits, valid, rows = counts
            low, high = wilson(hits / self.draws, rows / self.draws)
            found |= {
                f"{view.name}.{name}": hits / rows if rows else None,
                f"{view.name}.{name}_low": low,
                f"{view.name}.{name}_high": high,
                f"{view.name}.{name}_valid": valid / rows if rows else None,
                f"{view.name}.{name}_at_1": hits / valid if valid else None,
            }
        return found


def picks(view: ViewEvidence) -> Floats | None:
    """Returns per row which answer has the lowest mean NLL: 0 the right one, else 1, 2, ..."""
    if not view.has("answer", "perturbed"):
        return None
    pairs = zip(view.loss("answer"), view.losses("perturbed"), strict=True)
    return np.array([float(np.argmin([mine, *others])) for mine, others in pairs])


@dataclass(frozen=True)
class Ranked(ViewMetric):
    """Share of rows whose right answer has the lowest mean NLL of all candidates."""

    def of_rows(self, view: ViewEvidence) -> Floats | None:
        """Returns 1 for a hit, 0 for none."""
        found = picks(view)
        return None if found is None else (found == 0).astype(float)


@dataclass(frozen=True)
class Agreement(Metric):
    """Share of rows on which the model picks what the retrained model picks."""

    needs_retain_model: ClassVar[bool] = True

    def score(self, name: str, inputs: MetricInputs) -> dict[str, float | None]:
        """Returns the share for every view with other candidates that both models answered."""
        found: dict[str, float | None] = {}
        others = inputs.retain_model.views if inputs.retain_model is not None else {}
        for view in inputs.model.views.values():
            mine = picks(view)
            theirs = picks(others[view.name]) if view.name in others else None
            if mine is not None and theirs is not None:
                here, there = view.shared(others[view.name])
                found[f"{view.name}.{name}"] = float((mine[here] == theirs[there]).mean())
        return found


@dataclass(frozen=True)
class AUC(Metric):
    """Area under the curve of rows answered with yes or no, by the share of both answers."""

    double_softmax: bool = False
    """Score rows as TALLRec does."""
    yes: str = "Yes"

    def score(self, name: str, inputs: MetricInputs) -> dict[str, float | None]:
        """Returns the area for every view whose rows have one other answer each."""
        found: dict[str, float | None] = {}
        for view in inputs.model.views.values():
            texts = view.record.texts
            if texts is None or not view.has("answer", "perturbed"):
                continue
            right, other = view.probabilities("answer"), view.probabilities("perturbed")
            if any(len(x) != 1 for x in other):
                continue
            positive = [answer.strip() == self.yes for answer in texts.answers]
            pairs = [
                (r[0], o[0]) if p else (o[0], r[0])
                for r, o, p in zip(right, other, positive, strict=True)
            ]
            scores = [yes_score(y, n, self.double_softmax) for y, n in pairs]
            found[f"{view.name}.{name}"] = auc(scores, positive)
        return found
