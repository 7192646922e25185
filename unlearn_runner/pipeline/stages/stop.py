"""Check of stop rules: the evidence of a step in, whether unlearning ends with it out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unlearn_runner.evaluation.metrics.base import Metric, compute
from unlearn_runner.evaluation.metrics.evidence import Evidence
from unlearn_runner.evaluation.schema import View, recorded
from unlearn_runner.pipeline.stages.base import Stage
from unlearn_runner.pipeline.stages.score_files import SCORES, read
from unlearn_runner.training.stop import StopRule, known

STOPPED = "stopped.json"
"""Left in the artifact of an unlearning that a rule ended; see `StopCheck.facts`."""


@dataclass(frozen=True)
class StopCheck:
    """Rules, and what the scores that they are about are computed with.

    A score that compares with the retain model does not exist along the way.
    """

    rules: tuple[StopRule, ...]
    views: dict[str, View]
    metrics: dict[str, Metric]
    start: Stage | None
    """Scores of the model that unlearning starts from, where a bound is one of them."""

    def holds(self, folder: Path, path: Callable[[Stage], Path]) -> bool:
        """Returns whether every rule holds for the evidence in a folder."""
        if self.fails(folder, path):
            return False  # whatever the scores are that there is no evidence for
        scores, start = self._scores(folder), self._start(path)
        return all(rule.holds(scores, start) for rule in self.rules)

    @property
    def looks_at(self) -> tuple[str, ...]:
        """Views that the rules are about."""
        named = {rule.metric.rpartition(".")[0] for rule in self.rules}
        return tuple(view for view in self.views if view in named or "" in named)

    def fails(self, folder: Path, path: Callable[[Stage], Path]) -> bool:
        """Returns whether some rule does not hold, by as much evidence as a folder has."""
        scores, start = self._scores(folder), self._start(path)
        known = (rule for rule in self.rules if scores.get(rule.metric) is not None)
        return not all(rule.holds(scores, start) for rule in known)

    def facts(
        self, folder: Path, path: Callable[[Stage], Path], step: int, epochs: float
    ) -> dict[str, Any]:
        """Returns what is kept of the end: step, epochs to forget, each score and its bound."""
        scores, start = self._scores(folder), self._start(path)
        return {
            "step": step,
            "epochs": epochs,
            "scores": {rule.metric: known(scores, rule.metric, "no score") for rule in self.rules},
            "bounds": {rule.metric: rule.limit(start) for rule in self.rules},
        }

    def _scores(self, folder: Path) -> dict[str, float | None]:
        return compute(Evidence.load(folder, recorded(folder, self.views)), None, self.metrics)

    def _start(self, path: Callable[[Stage], Path]) -> dict[str, float | None]:
        return {} if self.start is None else read(path(self.start), SCORES)
