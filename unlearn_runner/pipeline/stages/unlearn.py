"""Unlearning: target model in, unlearned model out, by a method and a rectifier."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from unlearn_runner.models.adapters.base import Base
from unlearn_runner.pipeline.stages.base import Stage, StageContext
from unlearn_runner.pipeline.stages.evaluate import PeriodicEval, step_folder
from unlearn_runner.pipeline.stages.objective import OfObjective
from unlearn_runner.pipeline.stages.stop import STOPPED
from unlearn_runner.rectifiers.base import Group, Rectifier
from unlearn_runner.store.artifact import Outcome
from unlearn_runner.utils.files import write_json


@dataclass(frozen=True)
class Unlearn(OfObjective):
    """Minimises a method's terms, rectified, from the target on."""

    rectifier: Rectifier
    groups: tuple[Group, ...]
    """The terms the rectifier keeps apart, with the losses they use: what the key must know."""
    save_dtype: str
    thresholds: Stage | None
    """Scores of the start model that a stop rule's bound is one of; what `periodic_eval` reads."""
    periodic_eval: PeriodicEval | None

    kind: ClassVar[str] = "unlearn"
    order: ClassVar[int] = 1

    def reads(self) -> str:
        """Names the models and rows."""
        rows = f"{len(self.forget)} forget rows ({self.forget.name}), retain {self.retain.name}"
        return f"{', '.join(stage.label for stage in self.inputs)}, {rows}"

    def closing(self, last: dict[str, Any]) -> str | None:
        """Says what the rectifier has to say."""
        return self.rectifier.closing(last)

    def run(self, context: StageContext) -> Outcome:
        """Loads the start model, trains, saves."""
        from unlearn_runner.data.encode import length_limit
        from unlearn_runner.models.forward import Models
        from unlearn_runner.models.load import for_training, load_tokenizer
        from unlearn_runner.training.batches import StepLoader
        from unlearn_runner.training.engine import Engine
        from unlearn_runner.training.fixed_rows import audit_rows
        from unlearn_runner.training.loop import train

        session, recipe, adapter = context.open_session(), self.recipe, self.adapter
        folder, layout = context.path(self.start), session.layout
        tokenizer = load_tokenizer(folder)
        model = for_training(self.trained(context, folder), recipe.gradient_checkpointing)
        watched = tuple(term for group in self.groups for term in group.terms)
        start_model = self.start_model(session, folder, model, watched)
        max_tokens = length_limit(model, recipe.max_length)
        forget, retain = self.rows_in_tokens(tokenizer, max_tokens, context, watched)
        audit = self.rectifier.audit(self.method.terms())
        arithmetic = partial(layout.autocast, recipe.precision)
        engine = Engine(
            models=Models(model, start_model, arithmetic, self.seed),
            terms=self.method.terms(),
            recipe=recipe,
            num_rows=len(forget),
            pad=tokenizer.pad_token_id,
            rectifier=self.rectifier,
            layout=layout,
            method=self.method,
            audit_rows=audit and audit_rows("retain", retain, audit.rows, self.seed),
        )
        loader = StepLoader("forget", forget, recipe.batch_size, self.seed, retain)
        loader = replace(loader, add_splits=self.extra_splits(tokenizer, max_tokens, context))

        def save(place: Path, dtype: str = "float32") -> None:
            base = Base(folder, self.start.address)
            state = layout.whole_state(model, adapter.trains_a_part)
            if session.ranks.main:
                adapter.save(model, tokenizer, place, base, dtype, state)
            session.ranks.barrier()

        def evaluate_periodically(step: int) -> bool:
            if periodic is None or not periodic.take(
                step, model, tokenizer, context, self.label, save
            ):
                return False
            ended.append(step)
            return True

        periodic, ended = self.periodic_eval, list[int]()
        steps = () if periodic is None else periodic.steps
        log = context.training_log()
        if not train(engine, loader, self.label, log, evaluate_periodically, steps):
            return "diverged"
        save(context.folder, self.save_dtype)
        if periodic is not None and session.ranks.main:
            periodic.collect(context)
            if periodic.stop is not None and ended:
                step = ended[0]
                folder, epochs = context.folder / step_folder(step), step * recipe.batch_size
                facts = periodic.stop.facts(folder, context.path, step, epochs / len(forget))
                write_json(context.folder / STOPPED, facts)
        return "completed"
