"""Metrics of questions about pictures: what an answer says, by category, and yes against no."""

from __future__ import annotations

import re
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from unlearn_runner.evaluation.metrics.base import (
    Candidates,
    Categories,
    Metric,
    MetricInputs,
    Sample,
)
from unlearn_runner.evaluation.metrics.evidence import Floats, ViewEvidence
from unlearn_runner.evaluation.metrics.recommendation import NO, YES, chosen

NEGATIONS = frozenset(("No", "not", "no"))
SMALL = 1e-5
"""What R-Bench's evaluation adds to denominators."""


def said(text: str) -> str:
    """Returns what an answer says to a question of yes or no, as R-Bench decides it.

    No where a word of its first sentence, commas left out, is No, no or not; else yes, whatever it
    says.
    """
    words = text.split(".", 1)[0].replace(",", "").split(" ")
    return NO if NEGATIONS.intersection(words) else YES


def named(text: str, candidates: Sequence[str]) -> str | None:
    """Returns which of the possible answers a text gives, or none.

    Of yes and no as `said` has it, of others the only one found in its first line.
    """
    if {name.lower() for name in candidates} == {YES, NO}:
        verdict = said(text)
        return next(name for name in candidates if name.lower() == verdict)
    return chosen(text, candidates)


def rates(true_yes: Any, false_yes: Any, true_no: Any, false_no: Any) -> dict[str, Any]:
    """Returns precision and recall of yes, their harmonic mean, and the share of yes.

    Of numbers of answers, or of arrays of them. With R-Bench's smoothing, so that none is without a
    value.
    """
    precision = true_yes / (true_yes + false_yes + SMALL)
    recall = true_yes / (true_yes + false_no + SMALL)
    return {
        "precision": precision,
        "recall": recall,
        "f1": 2 * precision * recall / (precision + recall + SMALL),
        "ratio": (true_yes + false_yes) / (true_yes + false_yes + true_no + false_no),
    }


@dataclass(frozen=True)
class Told:
    """Rows by view: the possible answers of each, and what it is about."""

    candidates: Mapping[str, Candidates]
    categories: Categories

    def answers(self, view: ViewEvidence) -> list[tuple[str, str, str | None]] | None:
        """Returns category, right answer and given answer by row; none of a view without texts."""
        texts, candidates = view.record.texts, self.candidates.get(view.name)
        if texts is None or candidates is None:
            return None
        about = self.categories.get(view.name)
        keys = range(view.rows) if view.keys is None else view.keys
        rows = zip(keys, texts.generations, texts.answers, strict=True)
        return [
            ("" if about is None else about[key], answer, named(text, candidates[key]))
            for key, text, answer in rows
        ]


@dataclass(frozen=True)
class OfAnswers(Metric):
    """Base class of metrics that count once they are told the possible answers."""

    @abstractmethod
    def counting(self, rows: Told) -> Metric:
        """Returns the metric of known rows."""

    def told(
        self,
        candidates: Mapping[str, Candidates],
        draws: int,
        categories: Categories = MappingProxyType({}),
    ) -> Metric:
        """Returns the metric that counts."""
        return self.counting(Told(candidates, categories))

    def score(self, name: str, inputs: MetricInputs) -> dict[str, float | None]:
        """Returns nothing: the possible answers are not known."""
        return {}


@dataclass(frozen=True)
class Correct(OfAnswers):
    """Share of rows whose generated answer names the right one of the possible answers.

    `_on_<category>` is that of a category's rows, `_average` the mean over categories.
    """

    def counting(self, rows: Told) -> Metric:
        """Returns the metric of known rows."""
        return CountedCorrect(rows)


@dataclass(frozen=True)
class CountedCorrect(Correct):
    """Right answers among known ones."""

    rows: Told

    def parts(self, view: ViewEvidence) -> dict[str, Floats] | None:
        """Returns 1 for a right answer, 0 for another, NaN for none; [rows], by category.

        The rows of all are under "". None of a view without answers.
        """
        import numpy as np

        found = self.rows.answers(view)
        if found is None:
            return None
        hits = np.array([right == given for _, right, given in found], float)
        about = np.array([slug(category) for category, *_ in found])
        names = sorted({*about} - {""})
        return {"": hits, **{name: np.where(about == name, hits, np.nan) for name in names}}

    def score(self, name: str, inputs: MetricInputs) -> dict[str, float | None]:
        """Returns the shares of every view with answers."""
        import numpy as np

        found: dict[str, float | None] = {}
        for view in inputs.model.views.values():
            shares = {k: float(np.nanmean(v)) for k, v in (self.parts(view) or {}).items()}
            found |= _named(f"{view.name}.{name}", shares)
        return found

    def sampled(self, name: str, sample: Sample) -> dict[str, Floats]:
        """Returns the same in every bootstrap sample."""
        found: dict[str, Floats] = {}
        for view in sample.model.views.values():
            parts = (self.parts(view) or {}).items()
            found |= _named(f"{view.name}.{name}", {k: sample.mean(view.name, v) for k, v in parts})
        return found


def slug(category: str) -> str:
    """Returns a category as a part of a score's name."""
    return re.sub(r"\W+", "_", category.strip().lower()).strip("_")


def _named(prefix: str, shares: dict[str, Any]) -> dict[str, Any]:
    """Returns shares under the names of scores, with their mean over categories."""
    if not shares:
        return {}
    by_category = {key: value for key, value in shares.items() if key}
    found = {prefix: shares[""]}
    found |= {f"{prefix}_on_{key}": value for key, value in by_category.items()}
    if by_category:
        found[f"{prefix}_average"] = sum(by_category.values()) / len(by_category)
    return found


@dataclass(frozen=True)
class YesNo(OfAnswers):
    """Precision, recall and F1 of yes, and the share of yes, over questions of yes or no.

    Source: R-Bench's evaluation, its reading of an answer and its smoothing.
    """

    def counting(self, rows: Told) -> Metric:
        """Returns the metric of known rows."""
        return CountedYesNo(rows)


@dataclass(frozen=True)
class CountedYesNo(YesNo):
    """Answers to known questions of yes or no."""

    rows: Told

    def kinds(self, view: ViewEvidence) -> Floats | None:
        """Returns per row whether it is a true yes, false yes, true no, false no; [4, rows].

        None of a view without such questions.
        """
        import numpy as np

        found = self.rows.answers(view)
        if found is None or not any(right in (YES, NO) for _, right, _ in found):
            return None
        order = ((YES, YES), (NO, YES), (NO, NO), (YES, NO))
        return np.array([[pair == one[1:] for one in found] for pair in order], float)

    def score(self, name: str, inputs: MetricInputs) -> dict[str, float | None]:
        """Returns four numbers for every view with such questions."""
        found: dict[str, float | None] = {}
        for view in inputs.model.views.values():
            if (kinds := self.kinds(view)) is not None:
                of_view = rates(*kinds.sum(axis=1).tolist())
                found |= {f"{view.name}.{name}_{key}": value for key, value in of_view.items()}
        return found

    def sampled(self, name: str, sample: Sample) -> dict[str, Floats]:
        """Returns the same in every bootstrap sample."""
        import numpy as np

        found: dict[str, Floats] = {}
        for view in sample.model.views.values():
            if (kinds := self.kinds(view)) is not None:
                with np.errstate(invalid="ignore"):  # a sample without any such question
                    of_view = rates(*(kinds @ sample.counts[view.name].T))
                found |= {f"{view.name}.{name}_{key}": value for key, value in of_view.items()}
        return found
