"""Metric: a pure function of evidence. Importable, and computable, without torch."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import ClassVar

from unlearn_runner.evaluation.metrics.evidence import Evidence, Floats, ViewEvidence
from unlearn_runner.evaluation.schema import Goal, Role, View

Candidates = tuple[tuple[str, ...], ...]
"""Texts to choose from, row by row."""
Categories = Mapping[str, tuple[str, ...]]
"""By view, what each row is about."""


@dataclass(frozen=True)
class MetricInputs:
    """Evidence, and earlier scores, that a metric is computed from."""

    model: Evidence
    """The evidence of the model being scored."""
    retain_model: Evidence | None
    """The evidence of the retain-only model, or none."""
    scores: Mapping[str, float | None]
    """Scores computed before this metric, in the benchmark's order."""


@dataclass(frozen=True)
class Sample:
    """Bootstrap samples of the evaluated rows, the same rows for both models."""

    model: Evidence
    retain_model: Evidence | None
    counts: Mapping[str, Floats]
    """By view, how often each row is drawn in each sample; [samples, rows]."""
    scores: dict[str, Floats]
    """Earlier scores, sample by sample; each [samples]."""

    def mean(self, view: str, rows: Floats) -> Floats:
        """Returns the mean of the drawn rows that have a value, sample by sample; [samples]."""
        import numpy as np

        known, counts = ~np.isnan(rows), self.counts[view]
        with np.errstate(invalid="ignore"):  # a sample without any such row has no mean
            return counts[:, known] @ rows[known] / counts[:, known].sum(axis=1)


@dataclass(frozen=True)
class Metric(ABC):
    """Base class of metrics; the keys a metric returns are final score names."""

    needs_retain_model: ClassVar[bool] = False
    """Whether the metric compares with the retain-only model."""
    of_scores: ClassVar[bool] = False
    """Whether it is computed from other scores alone."""

    @abstractmethod
    def score(self, name: str, inputs: MetricInputs) -> dict[str, float | None]:
        """Returns scores by name; `None` where the evidence for one is missing.

        Args:
            name: The name the benchmark gives this metric, used to form score names: `<view>.`,
                `name`, `_<what>`; the first and the last where there is one.
            inputs: The evidence and the scores so far.
        """

    def told(
        self,
        candidates: Mapping[str, Candidates],
        draws: int,
        categories: Categories = MappingProxyType({}),
    ) -> Metric:
        """Returns the metric for rows with named candidates; most do not ask for them.

        Args:
            candidates: By view and row.
            draws: Rows of each record: as often as candidates were drawn for it.
            categories: What rows are about, by view and row, where that is known.
        """
        return self

    def of_rows(self, view: ViewEvidence) -> Floats | None:
        """Returns what each row adds to the mean that is a view's score; [rows], NaN for nothing.

        None where the evidence is missing, and of a score that is no mean over rows.
        """
        return None

    def sampled(self, name: str, sample: Sample) -> dict[str, Floats]:
        """Returns scores by name in every bootstrap sample, each [samples]; none has no interval.

        Means over rows, and what is computed from them alone; a metric of other kinds says more.
        """
        if self.of_scores:
            return self._of_sampled_scores(name, sample)
        found = {}
        for view in sample.model.views.values():
            if scored(view) and (rows := self.of_rows(view)) is not None:
                found[f"{view.name}.{name}"] = sample.mean(view.name, rows)
        return found

    def _of_sampled_scores(self, name: str, sample: Sample) -> dict[str, Floats]:
        import numpy as np

        draws = len(next(iter(sample.counts.values()), ()))
        earlier = ({key: float(v[i]) for key, v in sample.scores.items()} for i in range(draws))
        found = [self.score(name, MetricInputs(sample.model, None, one)) for one in earlier]
        names = found[0] if found else ()
        return {key: np.array([one[key] for one in found], float) for key in names}

    @property
    def named_views(self) -> dict[str, str]:
        """Views that its settings name, by setting; all must be the benchmark's."""
        return {}

    def needs(self, view: View) -> tuple[Role, ...]:
        """Returns the roles that every row of a view must have answers of to be scored."""
        return ("answer",)

    def higher_is_better(self, score: str, goal: Goal | None) -> bool:
        """Returns whether more of a score is better.

        Args:
            score: One of the names that `score` returns.
            goal: What its view is for; none for a score of the whole model.
        """
        return True


def scored(view: ViewEvidence) -> bool:
    """Returns whether a view has scores of its own; unseen rows are what others compare with."""
    return view.goal != "unseen"


def known_mean(rows: Floats | None) -> float | None:
    """Returns the mean of the rows that have a value; none where no row has."""
    import numpy as np

    known = [] if rows is None else rows[~np.isnan(rows)]
    return float(np.mean(known)) if len(known) else None


class ViewMetric(Metric):
    """Base class of metrics with one score for each view, `<view>.<name>`: a mean over rows."""

    def of_view(self, view: ViewEvidence) -> float | None:
        """Returns the score of one view; `None` where its evidence is missing."""
        rows = self.of_rows(view)
        return None if rows is None else float(rows.mean())

    def score(self, name: str, inputs: MetricInputs) -> dict[str, float | None]:
        """Returns `<view>.<name>` for every view."""
        views = filter(scored, inputs.model.views.values())
        return {f"{view.name}.{name}": self.of_view(view) for view in views}


def compute(
    model: Evidence, retain_model: Evidence | None, metrics: Mapping[str, Metric]
) -> dict[str, float | None]:
    """Returns all scores of a model, each metric seeing the ones before it."""
    scores: dict[str, float | None] = {}
    for name, metric in metrics.items():
        scores |= metric.score(name, MetricInputs(model, retain_model, scores))
    return scores


def directions(
    scores: Iterable[str],
    views: Mapping[str, View] | Mapping[str, ViewEvidence],
    metrics: Mapping[str, Metric],
) -> dict[str, str]:
    """Returns "lower" or "higher", whichever is better, by score name.

    Args:
        scores: Names that `compute` returned.
        views: By name.
        metrics: By the names that were given to `compute`.
    """
    found: dict[str, str] = {}
    for score in scores:
        view, _, rest = score.rpartition(".")
        names = [n for n in metrics if rest == n or rest.startswith(f"{n}_")]
        if names:  # the longest: forget_quality_ks is of forget_quality, not of a metric `forget`
            metric = metrics[max(names, key=len)]
            goal = views[view].goal if view in views else None
            found[score] = "higher" if metric.higher_is_better(score, goal) else "lower"
    return found
