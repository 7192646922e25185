"""Fine-tuning: base model in, model that answers the given rows out; target and retain model."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

from unlearn_runner.data.prompts import Prompting
from unlearn_runner.data.rows import Rows
from unlearn_runner.methods.base import Term
from unlearn_runner.methods.losses import NLL
from unlearn_runner.pipeline.stages.base import Stage, StageContext
from unlearn_runner.store.artifact import Outcome
from unlearn_runner.training.recipe import Recipe

if TYPE_CHECKING:
    from unlearn_runner.pipeline.session import Session


@dataclass(frozen=True)
class Finetune(Stage):
    """Fits a model to question/answer rows."""

    base: Stage
    template: Prompting
    rows: Rows
    recipe: Recipe
    seed: int

    kind: ClassVar[str] = "finetune"

    def reads(self) -> str:
        """Names the rows and the base."""
        return f"{self.base.label}, {len(self.rows)} rows ({self.rows.name})"

    def run(self, context: StageContext) -> Outcome:
        """Loads the base, trains, saves."""
        from unlearn_runner.models.load import load_tokenizer

        session = context.open_session()
        base = context.path(self.base)
        tokenizer = load_tokenizer(base)
        model = session.trainable(base, self.recipe.precision)
        if not fit(
            model, tokenizer, self.template, self.rows, self.recipe, self.seed, context, self.label
        ):
            return "diverged"
        session.save(model, tokenizer, context.folder)
        return "completed"


def fit(
    model: Any,
    tokenizer: Any,
    template: Prompting,
    rows: Rows,
    recipe: Recipe,
    seed: int,
    context: StageContext,
    title: str,
) -> bool:
    """Minimises the NLL of the rows' answers; returns false when training diverged.

    The model lies where the session's layout has it.
    """
    from unlearn_runner.data.encode import encode_rows, length_limit
    from unlearn_runner.models.forward import Models
    from unlearn_runner.models.load import for_training
    from unlearn_runner.training.batches import StepLoader
    from unlearn_runner.training.engine import Engine
    from unlearn_runner.training.loop import train

    session: Session = context.open_session()
    model = for_training(model, recipe.gradient_checkpointing)
    encoded = encode_rows(tokenizer, template, rows, length_limit(model, recipe.max_length))
    engine = Engine(
        models=Models(model, None, partial(session.layout.autocast, recipe.precision)),
        terms=(Term("train", "train", NLL()),),
        recipe=recipe,
        num_rows=len(rows),
        pad=tokenizer.pad_token_id,
        layout=session.layout,
    )
    loader = StepLoader("train", encoded, recipe.batch_size, seed)
    return train(engine, loader, title, context.training_log())
