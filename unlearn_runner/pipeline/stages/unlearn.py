"""Unlearning: target model in, unlearned model out, by a method and a rectifier."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from unlearn_runner.data.prompts import Prompting
from unlearn_runner.data.rows import Rows
from unlearn_runner.errors import ConfigError
from unlearn_runner.methods.base import Method, needs_alternatives, needs_start_model
from unlearn_runner.models.adapters.base import Adapter, Base
from unlearn_runner.pipeline.stages.base import Stage, StageContext
from unlearn_runner.pipeline.stages.evaluate import PeriodicEval
from unlearn_runner.pipeline.stages.start_model import FORGET, OTHER, alternative_texts
from unlearn_runner.rectifiers.base import Group, Rectifier
from unlearn_runner.store.artifact import Outcome
from unlearn_runner.training.recipe import Recipe

if TYPE_CHECKING:
    from unlearn_runner.training.alternatives import ExtraSplits


@dataclass(frozen=True)
class Unlearn(Stage):
    """Minimises a method's terms, rectified, from the target on."""

    start: Stage
    start_logprobs: Stage | None
    template: Prompting
    method: Method
    rectifier: Rectifier
    groups: tuple[Group, ...]
    """The terms the rectifier keeps apart, with the losses they use: what the key must know."""
    forget: Rows
    retain: Rows
    recipe: Recipe
    seed: int
    refusals: tuple[str, ...]
    """What forget (or retain) questions are answered with, where a term asks for it."""
    alternates: Stage | None
    """Takes the refusals' place where the method has alternates."""
    alternative_logprobs: Stage | None
    adapter: Adapter
    save_dtype: str
    periodic_eval: PeriodicEval | None

    kind: ClassVar[str] = "unlearn"
    order: ClassVar[int] = 1

    def reads(self) -> str:
        """Names the models and rows."""
        rows = f"{len(self.forget)} forget rows ({self.forget.name}), retain {self.retain.name}"
        return f"{', '.join(stage.label for stage in self.inputs)}, {rows}"

    def run(self, context: StageContext) -> Outcome:
        """Loads the start model, trains, saves."""
        from unlearn_runner.data.encode import encode_rows, length_limit, with_start
        from unlearn_runner.evaluation.schema import read_logprobs
        from unlearn_runner.models.forward import Models
        from unlearn_runner.models.load import for_training, load_tokenizer
        from unlearn_runner.training.audit import audit_rows
        from unlearn_runner.training.batches import StepLoader
        from unlearn_runner.training.engine import Engine
        from unlearn_runner.training.loop import train

        session, recipe, adapter = context.open_session(), self.recipe, self.adapter
        folder, layout = context.path(self.start), session.layout
        tokenizer = load_tokenizer(folder)

        def prepare(loaded: Any) -> None:
            only_trained(adapter.attach(loaded, self.seed), self.method)

        model = session.trainable(folder, recipe.precision, prepare, adapter.storage)
        model = for_training(model, recipe.gradient_checkpointing)
        watched = tuple(term for group in self.groups for term in group.terms)
        start_model = None
        if needs_start_model(watched):
            start_model = adapter.start(model)
            if start_model is None:
                start_model = session.trainable(folder, recipe.precision).eval()
        max_tokens = length_limit(model, recipe.max_length)
        forget = encode_rows(tokenizer, self.template, self.forget, max_tokens)
        if self.start_logprobs is not None:
            start = read_logprobs(context.path(self.start_logprobs), FORGET)
            forget = with_start(forget, list(start.values()))
        retain = []
        if any(term.split in ("retain", "mixed") for term in watched):
            retain = encode_rows(tokenizer, self.template, self.retain, max_tokens)
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

        def evaluate_periodically(step: int) -> None:
            if periodic is not None:
                periodic.take(step, model, tokenizer, context, self.label, save)

        periodic = self.periodic_eval
        steps = () if periodic is None else periodic.steps
        log = context.training_log()
        if not train(engine, loader, self.label, log, evaluate_periodically, steps):
            return "diverged"
        save(context.folder, self.save_dtype)
        if periodic is not None and session.ranks.main:
            periodic.collect(context)
        return "completed"

    def extra_splits(self, tokenizer: Any, max_tokens: int, context: StageContext) -> ExtraSplits:
        """Returns what the method's terms need beside the rows: other answers, tails."""
        from unlearn_runner.data.encode import Encoded, encode_whole
        from unlearn_runner.evaluation.schema import read_logprobs
        from unlearn_runner.training.alternatives import AlternativeAnswers, ExtraSplits

        def encoder(rows: Rows) -> Callable[[int, str], Encoded]:
            def encode(row: int, text: str) -> Encoded:
                question, where = rows[row].question, f"{text[:60]!r} as answer"
                return encode_whole(tokenizer, self.template, question, text, max_tokens, where)

            return encode

        terms, numbers = self.method.terms(), None
        forget = retain = None
        if needs_alternatives(terms, "forget"):
            texts = alternative_texts(context, self.alternates, self.refusals, len(self.forget))
            if self.alternative_logprobs is not None:
                place = context.path(self.alternative_logprobs)
                numbers = read_logprobs(place, OTHER)
            forget = AlternativeAnswers(texts, encoder(self.forget), numbers)
        if needs_alternatives(terms, "retain"):
            retain = AlternativeAnswers([self.refusals] * len(self.retain), encoder(self.retain))
        return ExtraSplits(forget, retain, self.method.skip)


def only_trained(model: Any, method: Method) -> None:
    """Freezes the parameters that a method does not train.

    Raises:
        ConfigError: If it would train none.
    """
    for name, parameter in model.named_parameters():
        if not method.trains(name):
            parameter.requires_grad_(False)
    if not any(parameter.requires_grad for parameter in model.parameters()):
        names = [name for name, _ in model.named_parameters()]
        raise ConfigError(
            "method.parameters is found in the name of no parameter",
            f"a name is, for example, {names[len(names) // 2]}",
        )
