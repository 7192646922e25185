"""Evaluation: a model in, evidence out. Scores are a stage of their own and need no model."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from unlearn_runner.evaluation.evaluator import Evaluator
from unlearn_runner.pipeline.stages.base import Stage, StageContext
from unlearn_runner.pipeline.stages.stop import StopCheck
from unlearn_runner.store.artifact import Outcome

if TYPE_CHECKING:
    from unlearn_runner.pipeline.session import Session

ATTEMPT = "attempt"
"""Folder of what an unfinished evaluation has computed."""


@dataclass(frozen=True)
class Evaluate(Stage):
    """Runs both probes over every view, once."""

    model: Stage
    evaluator: Evaluator
    base: Stage | None = None
    """The model that `model` starts from, when it left an adapter instead of a whole one."""
    further_to: Evaluate | None = None
    """The evaluation of the same model that this one adds views to: its evidence is taken over."""
    target: Stage | None = None
    """The model that unlearning starts from, where a probe writes states into it."""
    classifier: Stage | None = None
    """What a probe asks about generated texts."""

    kind: ClassVar[str] = "evaluate"
    order: ClassVar[int] = 2

    def reads(self) -> str:
        """Names the model and the views."""
        views = self.evaluator.views.items()
        listed = ", ".join(f"{name} {len(rows)}" for name, rows in views)
        on_base = f" on {self.base.label}" if self.base is not None else ""
        beside = f", {self.further_to.label}" if self.further_to is not None else ""
        return f"{self.model.label}{on_base}, rows of {listed}{beside}"

    def run(self, context: StageContext) -> Outcome:
        """Loads the model and evaluates it; the files of `further_to` go beside."""
        from unlearn_runner.models.load import load_tokenizer

        session = context.open_session()
        folder = context.path(self.model)
        tokenizer = load_tokenizer(folder)
        precision, base = self.evaluator.precision, self.base and context.path(self.base)
        model = session.frozen(folder, precision, base)
        attempt, target = context.checkpoints / ATTEMPT, None
        if self.target is not None:
            itself = self.target.key == self.model.key
            target = model if itself else session.frozen(context.path(self.target), precision)
        classifier = None if self.classifier is None else context.path(self.classifier)
        how = (context.folder, self.label, session.ranks, attempt, target, classifier)
        self.evaluator.run(model, tokenizer, *how)
        if self.further_to is not None and session.ranks.main:
            for path in context.path(self.further_to).glob("*.parquet"):
                _linked(str(path), str(context.folder / path.name))
        return "completed"


@dataclass(frozen=True)
class PeriodicEval:
    """Evaluations of a model after some steps of its unlearning."""

    steps: tuple[int, ...]
    """Optimizer steps."""
    evaluator: Evaluator
    models: bool = False
    """Whether to keep the models of those steps, too."""
    stop: StopCheck | None = None
    """Looks at the evidence of each of them, and may end unlearning."""
    brief: bool = False
    """Whether to generate only where teacher-forced evidence does not say already that unlearning
    goes on."""

    def take(
        self,
        step: int,
        model: Any,
        tokenizer: Any,
        context: StageContext,
        title: str,
        save: Callable[[Path], None],
    ) -> bool:
        """Evaluates the model after `step` when it is due, unless that was done before a kill.

        Returns whether unlearning is to end with it: a function of the evidence, which lies beside
        the checkpoints, so a resumed run ends at the same step.

        `save` writes the model into a folder; `title` is the name of the progress bars.
        """
        if step not in self.steps:
            return False
        session: Session = context.open_session()
        ranks, place = session.ranks, context.checkpoints / step_folder(step)
        if ranks.broadcast(place.exists()):
            return self._ends(place, context)
        unfinished = place.with_name(f".{place.name}")
        unfinished.mkdir(exist_ok=True)
        model.eval()
        with session.layout.autocast(self.evaluator.precision):
            label, attempt = f"{title} at step {step}", unfinished / ATTEMPT
            given = (model, tokenizer, unfinished, label, ranks, attempt)
            if self.brief:
                self.evaluator.teacher_forced().run(*given)
            if not self.brief or not self._fails(unfinished, context):
                self.evaluator.run(*given)
        if self.models:
            save(unfinished / "model")
        if ranks.main:
            shutil.rmtree(attempt, ignore_errors=True)
            unfinished.rename(place)
        ranks.barrier()
        return self._ends(place, context)

    def _ends(self, place: Path, context: StageContext) -> bool:
        """Returns, on every rank, whether the evidence of a step ends unlearning."""
        if self.stop is None:
            return False
        ranks = context.open_session().ranks
        return ranks.broadcast(ranks.main and self.stop.holds(place, context.path))

    def _fails(self, place: Path, context: StageContext) -> bool:
        """Returns, on every rank, whether the evidence so far says that unlearning goes on."""
        ranks = context.open_session().ranks
        stop = self.stop
        return ranks.broadcast(stop is not None and ranks.main and stop.fails(place, context.path))

    def collect(self, context: StageContext) -> None:
        """Links the evidence of all steps into the stage's artifact.

        It stays where it was, too: a run that is killed before the artifact is published goes on
        from a checkpoint, and makes none of an earlier step.
        """
        for step in self.steps:
            taken, place = (
                context.checkpoints / step_folder(step),
                context.folder / step_folder(step),
            )
            if taken.exists():  # or unlearning ended before it
                shutil.copytree(taken, place, copy_function=_linked)


def _linked(source: str, target: str) -> None:
    try:
        os.link(source, target)  # models may have gigabytes
    except OSError:  # not every file system has links
        shutil.copy2(source, target)


def step_folder(step: int) -> str:
    """Returns the name of the folder of one step's evidence."""
    return f"step-{step:06d}"
