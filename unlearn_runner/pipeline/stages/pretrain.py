"""Pre-training of a from-scratch model: a tokenizer, random weights, a short training on facts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from unlearn_runner.data.prompts import Prompting
from unlearn_runner.data.rows import Rows
from unlearn_runner.models.shape import Shape
from unlearn_runner.pipeline.stages.base import Stage, StageContext
from unlearn_runner.store.artifact import Outcome
from unlearn_runner.training.recipe import Recipe


@dataclass(frozen=True)
class Pretrain(Stage):
    """Makes the base model and its tokenizer."""

    shape: Shape
    vocab_size: int
    template: Prompting
    full: Rows
    """What the tokenizer is trained on, beside `rows`: a general-purpose tokenizer would know these
    words too."""
    rows: Rows
    recipe: Recipe
    seed: int

    kind: ClassVar[str] = "pretrain"

    def reads(self) -> str:
        """Names the rows."""
        return f"{len(self.rows)} rows ({self.rows.name}), tokenizer also from {self.full.name}"

    def run(self, context: StageContext) -> Outcome:
        """Trains the tokenizer, then the model on question and answer of `rows`."""
        from unlearn_runner.models.load import in_precision, new_llama, train_tokenizer

        session = context.open_session()
        from unlearn_runner.pipeline.stages.finetune import fit

        rows = [*self.full, *self.rows]
        texts = [self.template.render(None, row.question, row.answer).text for row in rows]
        tokenizer = train_tokenizer(texts, self.vocab_size)
        model = in_precision(new_llama(self.shape, tokenizer, self.seed), self.recipe.precision)
        model = session.placed(model, self.recipe.precision)
        if len(self.rows) and not fit(
            model, tokenizer, self.template, self.rows, self.recipe, self.seed, context, self.label
        ):
            return "diverged"
        session.save(model, tokenizer, context.folder)
        return "completed"
