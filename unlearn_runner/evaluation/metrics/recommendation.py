"""Metrics of recommendation: valid answers, hits, and the area under the curve of yes and no."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from unlearn_runner.evaluation.metrics.base import (
    Candidates,
    Categories,
    Metric,
    MetricInputs,
    Sample,
    ViewMetric,
    scored,
)
from unlearn_runner.evaluation.metrics.evidence import Floats, ViewEvidence
from unlearn_runner.evaluation.metrics.membership.auc import auc, sampled_auc

Z = 1.959963984540054
YES, NO = "yes", "no"


def chosen(generation: str, candidates: Sequence[str], words: bool = False) -> str | None:
    """Returns the candidate that an answer names: the only one found in its first line, or none.

    As LLaRA and LLMEraser decide it: lower case, as a part of the text. A title within a longer
    one makes an answer invalid. Or `words` alone: there is no "no" in "I know".
    """
    first = generation.strip().split("\n", 1)[0].lower()
    edge = r"\b" if words else ""
    found = [x for x in candidates if re.search(f"{edge}{re.escape(x.lower())}{edge}", first)]
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


@dataclass(frozen=True)
class Hits(Metric):
    """Share of rows whose generated answer names the right one of the candidates.

    With a Wilson interval of as many rows as there are records, however often candidates were drawn
    for each. `_valid` is the share of answers that name exactly one candidate, `_at_1` that of hits
    among those (HitRatio@1).
    """

    words: bool = field(default=False, kw_only=True)
    """A candidate counts where it stands as words of its own: for yes and no."""

    def told(
        self,
        candidates: Mapping[str, Candidates],
        draws: int,
        categories: Categories = MappingProxyType({}),
    ) -> Metric:
        """Returns the metric that counts."""
        return CountedHits(candidates, draws, words=self.words)

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
        named = [(chosen(text, candidates[key], self.words), answer) for key, text, answer in rows]
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
    """Area under the curve of rows answered with yes or no, by the share of both answers.

    An answer's probability is that per token of the whole of it, as it is trained on. Deviation:
    TALLRec takes that of the first token.
    """

    double_softmax: bool = False
    """Score rows as TALLRec does."""

    def kinds(self, view: ViewEvidence) -> tuple[Floats, NDArray[np.bool_]] | None:
        """Returns the score of yes, NaN for a row that is no such question, and where yes is right.

        Both are [rows]. None of a view without texts or other answers, or with one kind of row.
        """
        texts = view.record.texts
        if texts is None or not view.has("answer", "perturbed"):
            return None
        said = [answer.strip(" .").lower() for answer in texts.answers]
        pairs = zip(
            said, view.probabilities("answer"), view.probabilities("perturbed"), strict=True
        )
        scores = [
            yes_score(*((p[0], q[0]) if one == YES else (q[0], p[0])), self.double_softmax)
            if one in (YES, NO) and len(q) == 1
            else math.nan
            for one, p, q in pairs
        ]
        found, yes = np.array(scores), np.array(said) == YES
        known = ~np.isnan(found)
        return (found, yes) if (known & yes).any() and (known & ~yes).any() else None

    def score(self, name: str, inputs: MetricInputs) -> dict[str, float | None]:
        """Returns the area for every view that has rows of both kinds."""
        found: dict[str, float | None] = {}
        for view in filter(scored, inputs.model.views.values()):
            if (kinds := self.kinds(view)) is not None:
                scores, yes = kinds
                known = ~np.isnan(scores)
                found[f"{view.name}.{name}"] = auc(scores[known & ~yes], scores[known & yes])
        return found

    def sampled(self, name: str, sample: Sample) -> dict[str, Floats]:
        """Returns the same in every bootstrap sample."""
        found: dict[str, Floats] = {}
        for view in filter(scored, sample.model.views.values()):
            if (kinds := self.kinds(view)) is not None:
                scores, yes = kinds
                no, yes = (np.flatnonzero(~np.isnan(scores) & side) for side in (~yes, yes))
                counts = sample.counts[view.name]
                with np.errstate(invalid="ignore"):  # a sample with one kind of row alone
                    areas = sampled_auc(scores[no], scores[yes], counts[:, no], counts[:, yes])
                found[f"{view.name}.{name}"] = areas
        return found
