"""Calibration: as much of an unlearned model as keeps a share of one score of the target."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from unlearn_runner.evaluation.evaluator import Evaluator
from unlearn_runner.evaluation.metrics.base import Metric, compute
from unlearn_runner.evaluation.metrics.evidence import Evidence
from unlearn_runner.evaluation.schema import View, recorded
from unlearn_runner.pipeline.stages.base import Stage, StageContext
from unlearn_runner.pipeline.stages.score_files import SCORES, read
from unlearn_runner.store.artifact import Outcome
from unlearn_runner.training.stop import known
from unlearn_runner.utils.files import write_json

CALIBRATION = "calibration.json"
"""Left beside the model: the score, its bar, the share that was found, every trial."""


def largest(enough: Callable[[float], bool], halvings: int) -> float:
    """Returns the largest share from 0 to 1 that is found to be enough; 0 always is.

    By halves, after 1 itself: where what decides falls as the share grows, less than 2^-halvings
    below the largest there is.
    """
    if enough(1.0):
        return 1.0
    low, high = 0.0, 1.0
    for _ in range(halvings):
        middle = (low + high) / 2
        low, high = (middle, high) if enough(middle) else (low, middle)
    return low


@dataclass(frozen=True)
class Calibrate(Stage):
    """Mixes the weights of an unlearned model with those of its target.

    Source: UWC (Wang et al. 2025, "Towards effective evaluations and comparisons for LLM unlearning
    methods"), (1 - share) target + share unlearned. Deviation: the share is found by halves, not on
    a grid of tenths. Three copies of the weights are in memory.
    """

    start: Stage
    unlearned: Stage
    scores: Stage
    """Of `start`."""
    evaluator: Evaluator
    """Of the views that the score is of."""
    views: dict[str, View]
    metrics: dict[str, Metric]
    metric: str
    keep: float
    halvings: int
    save_dtype: str

    kind: ClassVar[str] = "calibrate"
    order: ClassVar[int] = 1

    def reads(self) -> str:
        """Names the models and the score."""
        return f"{self.start.label}, {self.unlearned.label}, {self.keep:g} of {self.metric}"

    def facts(self, folder: Path) -> dict[str, Any]:
        """Returns what was found, without the trials."""
        found = json.loads((folder / CALIBRATION).read_text(encoding="utf-8"))
        return {name: value for name, value in found.items() if name != "trials"}

    def closing(self, last: dict[str, Any]) -> str | None:
        """Says how much of the unlearned model is left."""
        return (
            f"calibrated: {last['share']:.4g} of the unlearned model keeps {self.metric} at "
            f"{last['score']:.4g}, at least {self.keep:g} of the target's"
        )

    def run(self, context: StageContext) -> Outcome:
        """Looks for the share, and saves the model that has it."""
        from unlearn_runner.models.load import load_tokenizer, save

        session = context.open_session()
        before = read(context.path(self.scores), SCORES)
        target = known(before, self.metric, "the target has no score", "calibrate.metric")
        tokenizer = load_tokenizer(context.path(self.unlearned))
        model, start = (
            session.frozen(context.path(stage), "float32") for stage in (self.unlearned, self.start)
        )
        mixture = Mixture(model, start)
        trials: list[dict[str, float]] = [{"share": 0.0, "score": target}]

        def enough(share: float) -> bool:
            mixture.set(share)
            place = context.checkpoints / "trial"
            place.mkdir(parents=True, exist_ok=True)
            with session.autocast(self.evaluator.precision):
                title = f"{self.label}, share {share:.4g}"
                self.evaluator.run(model, tokenizer, place, title, session.ranks)
            score = 0.0
            if session.ranks.main:
                evidence = Evidence.load(place, recorded(place, self.views))
                found = compute(evidence, None, self.metrics)
                problem = "the mixed model has no score"
                score = known(found, self.metric, problem, "calibrate.metric")
                shutil.rmtree(place)
            score = session.ranks.broadcast(score)
            trials.append({"share": share, "score": score})
            context.log({"stage": self.label, "step": len(trials), **trials[-1]})
            return score >= self.keep * target

        share = largest(enough, self.halvings)
        mixture.set(share)
        chosen = next(trial for trial in trials if trial["share"] == share)
        context.log({"stage": self.label, "step": len(trials) + 1, **chosen})
        if session.ranks.main:
            facts = {"metric": self.metric, "bar": self.keep * target, **chosen, "trials": trials}
            write_json(context.folder / CALIBRATION, facts)
            save(model, tokenizer, context.folder, self.save_dtype)  # every rank has all of it
        session.ranks.barrier()
        return "completed"


class Mixture:
    """A model whose weights are mixed of its own and another's."""

    def __init__(self, model: Any, start: Any) -> None:
        self.model = model
        self.own = {name: x.detach().clone() for name, x in model.named_parameters()}
        self.other = dict(start.named_parameters())

    def set(self, share: float) -> None:
        """Sets the weights to (1 - share) of the other model's and share of its own."""
        import torch

        with torch.no_grad():
            for name, weight in self.model.named_parameters():
                torch.lerp(self.other[name].detach(), self.own[name], share, out=weight.data)
