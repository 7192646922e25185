"""Log: one model's evaluation in some format, read view by view as evidence."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from unlearn_runner.evaluation.metrics import suites
from unlearn_runner.evaluation.metrics.base import Metric
from unlearn_runner.evaluation.metrics.evidence import Evidence, Record, ViewEvidence
from unlearn_runner.evaluation.metrics.truth_ratio import Mean
from unlearn_runner.evaluation.schema import Role, View

FORGET, HOLDOUT = "forget", "holdout"
VIEWS = {
    "retain": View("retain_perturbed"),
    "real_authors": View("real_authors_perturbed", probability="options"),
    "world_facts": View("world_facts_perturbed", probability="options"),
    FORGET: View("request", goal="forget"),
}
"""TOFU's four views, kept ones first: the order in which model utility takes its parts."""
UNSEEN = View(HOLDOUT, goal="unseen")


@dataclass(frozen=True)
class Log(ABC):
    """One model's evaluation; a view is read and checked when it is needed."""

    path: Path
    content: Any

    format: ClassVar[str]
    eps: ClassVar[float] = 0.0
    """What the format's own project adds to denominators; the `eps` of metrics."""
    benchmark: ClassVar[str] = "TOFU"
    """As whose evaluation open-unlearning would write it; see `logs.write`."""
    has_texts: ClassVar[bool] = True
    """Whether rows can be told by their texts; else two logs' rows are compared in their order."""

    @classmethod
    @abstractmethod
    def recognises(cls, content: Any) -> bool:
        """Returns whether parsed JSON looks like this format."""

    @property
    def views(self) -> Mapping[str, View]:
        """The views of the log by name."""
        return VIEWS

    def metrics(self, mean: Mean) -> dict[str, Metric]:
        """Returns the metrics that the format's project reports by default, by name.

        Args:
            mean: How reported truth ratios average wrong answers.
        """
        return suites.tofu(self.eps, mean)

    def further(self) -> dict[str, Metric]:
        """Returns the metrics that a full suite has beyond those, by name."""
        return suites.further(self.eps)

    def scores(self) -> dict[str, float | None]:
        """Returns scores that stand in the log as they are, by name."""
        return {}

    @abstractmethod
    def record(self, view: str) -> Record:
        """Returns the record of one view; without a statistic where the log has none.

        Raises:
            DataError: A value is malformed, or rows of the view's statistics differ.
        """

    def right(self, view: str) -> Role | None:
        """Returns which answer the truth ratio of a view takes as the right one."""
        return None

    def view(self, name: str) -> ViewEvidence:
        """Returns the evidence of one view."""
        view = self.views[name]
        record = self.record(name)
        return ViewEvidence(name, view.goal, view.probability, record, self.right(name))

    def evidence(self) -> Evidence:
        """Returns the evidence of all views."""
        return Evidence({name: self.view(name) for name in self.views})
