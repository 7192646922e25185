"""Training on rows: of random weights to a base model, and of a base to target or retain model."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

from unlearn_runner.data.prompts import Prompting
from unlearn_runner.data.rows import Rows
from unlearn_runner.methods.base import Term
from unlearn_runner.methods.losses import NLL
from unlearn_runner.models.adapters.base import Adapter, Base
from unlearn_runner.models.shape import Shape
from unlearn_runner.pipeline.stages.base import Stage, StageContext
from unlearn_runner.store.artifact import Outcome
from unlearn_runner.training.recipe import Recipe


@dataclass(frozen=True)
class TrainOnRows(Stage):
    """Base class of stages that minimise the NLL of the answers of rows."""

    template: Prompting
    rows: Rows
    recipe: Recipe
    seed: int

    def fit(self, model: Any, tokenizer: Any, context: StageContext) -> Outcome:
        """Trains a model, which lies where the session's layout has it; saves it if it can."""
        from unlearn_runner.data.encode import encode_rows, length_limit
        from unlearn_runner.models.forward import Models
        from unlearn_runner.models.load import for_training
        from unlearn_runner.training.batches import StepLoader
        from unlearn_runner.training.engine import Engine
        from unlearn_runner.training.loop import train

        session, recipe = context.open_session(), self.recipe
        model = for_training(model, recipe.gradient_checkpointing)
        max_tokens = length_limit(model, recipe.max_length)
        encoded = encode_rows(tokenizer, self.template, self.rows, max_tokens)
        engine = Engine(
            models=Models(model, None, partial(session.layout.autocast, recipe.precision)),
            terms=(Term("train", "train", NLL()),),
            recipe=recipe,
            num_rows=len(self.rows),
            pad=tokenizer.pad_token_id,
            layout=session.layout,
        )
        loader = StepLoader("train", encoded, recipe.batch_size, self.seed)
        if not train(engine, loader, self.label, context.training_log()):
            return "diverged"
        self.save(model, tokenizer, context)
        return "completed"

    def save(self, model: Any, tokenizer: Any, context: StageContext) -> None:
        """Writes what is kept of a trained model; every rank must call it."""
        context.open_session().save(model, tokenizer, context.folder)


@dataclass(frozen=True)
class Finetune(TrainOnRows):
    """Fits a model to question/answer rows."""

    base: Stage

    kind: ClassVar[str] = "finetune"

    @property
    def fine_tune(self) -> Finetune:
        """This one."""
        return self

    def trained(self, context: StageContext, kept: bool = True) -> Any:
        """Returns the model whose gradients are those of what is trained.

        As the session's layout has it, in the precision of the fine-tune. `kept` says whether it is
        as training left it, or as it began.
        """
        folder = context.path(self if kept else self.base)
        return context.open_session().trainable(folder, self.recipe.precision)

    def reads(self) -> str:
        """Names the rows and the base."""
        return f"{self.base.label}, {len(self.rows)} rows ({self.rows.name})"

    def run(self, context: StageContext) -> Outcome:
        """Loads the base, trains, saves."""
        from unlearn_runner.models.load import load_tokenizer

        tokenizer = load_tokenizer(context.path(self.base))
        return self.fit(self.trained(context, kept=False), tokenizer, context)


@dataclass(frozen=True)
class FinetuneAdapter(Finetune):
    """Fits an adapter to question/answer rows, below a model that stays as it is.

    What is kept is the adapter alone; `Merge` makes an ordinary model of it. Who needs the gradient
    of the adapter itself gets it by `trained`.
    """

    adapter: Adapter

    @property
    def belongs_to(self) -> Stage:
        """The base."""
        return self.base

    def trained(self, context: StageContext, kept: bool = True) -> Any:
        """Returns the base with the adapter, which alone asks for gradients."""

        def prepare(loaded: Any) -> None:
            self.adapter.attach(loaded, self.seed)
            if kept:
                self.adapter.load(loaded, context.path(self))

        base, storage = context.path(self.base), self.adapter.storage
        return context.open_session().trainable(base, self.recipe.precision, prepare, storage)

    def save(self, model: Any, tokenizer: Any, context: StageContext) -> None:
        """Writes the adapter's folder."""
        session, base = context.open_session(), Base(context.path(self.base), self.base.address)
        state = session.layout.whole_state(model, self.adapter.trains_a_part)
        if session.ranks.main:
            self.adapter.save(model, tokenizer, context.folder, base, "float32", state)
        session.ranks.barrier()


@dataclass(frozen=True)
class Pretrain(TrainOnRows):
    """Makes a base model from scratch: a tokenizer, random weights, a short training on facts."""

    shape: Shape
    vocab_size: int
    full: Rows
    """What the tokenizer is trained on, beside `rows`: a general-purpose tokenizer would know these
    words too."""

    kind: ClassVar[str] = "pretrain"

    def reads(self) -> str:
        """Names the rows."""
        return f"{len(self.rows)} rows ({self.rows.name}), tokenizer also from {self.full.name}"

    def run(self, context: StageContext) -> Outcome:
        """Trains the tokenizer, then the model on question and answer of `rows`."""
        from unlearn_runner.models.load import in_precision, new_model, train_tokenizer

        session, precision = context.open_session(), self.recipe.precision
        rows = [*self.full, *self.rows]
        texts = [row.rendered(None, self.template).text for row in rows]
        tokenizer = train_tokenizer(texts, self.vocab_size, self.shape.special_tokens)
        model = in_precision(new_model(self.shape, tokenizer, self.seed), precision)
        model = session.layout.place(model, precision)
        if len(self.rows):
            return self.fit(model, tokenizer, context)
        session.save(model, tokenizer, context.folder)
        return "completed"
