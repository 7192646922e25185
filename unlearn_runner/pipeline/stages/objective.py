"""Base of stages that take gradients of a method's terms: its rows in tokens, its start model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unlearn_runner.data.prompts import Prompting
from unlearn_runner.data.rows import Rows
from unlearn_runner.errors import ConfigError
from unlearn_runner.methods.base import Method, Term, needs_alternatives, needs_start_model
from unlearn_runner.models.adapters.base import Adapter
from unlearn_runner.pipeline.stages.base import Stage, StageContext
from unlearn_runner.pipeline.stages.start_model import FORGET, OTHER, alternative_texts
from unlearn_runner.training.recipe import Recipe

if TYPE_CHECKING:
    from unlearn_runner.data.encode import Encoded
    from unlearn_runner.pipeline.session import Session
    from unlearn_runner.training.alternatives import ExtraSplits


@dataclass(frozen=True)
class OfObjective(Stage):
    """Base class of stages that take gradients of a method's terms."""

    start: Stage
    start_logprobs: Stage | None
    template: Prompting
    method: Method
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
    row_weights: Stage | None
    """What the adapter begins with, where it needs any."""

    def trained(self, context: StageContext, folder: Path, kept: Path | None = None) -> Any:
        """Returns a model with what is trained in it, as the session's layout has it.

        Args:
            context: Of the running stage.
            folder: Of the start model, or of a whole one in its place.
            kept: Folder of what an adapter's training left behind; none: it is as it begins.
        """
        from unlearn_runner.pipeline.stages.fisher import read_row_weights

        begin = self.row_weights and read_row_weights(context.path(self.row_weights))

        def prepare(loaded: Any) -> None:
            only_trained(self.adapter.attach(loaded, self.seed, begin), self.method)
            if kept is not None:
                self.adapter.load(loaded, kept)

        session, storage = context.open_session(), self.adapter.storage
        return session.trainable(folder, self.recipe.precision, prepare, storage)

    def start_model(
        self, session: Session, folder: Path, model: Any, terms: tuple[Term, ...]
    ) -> Any:
        """Returns the start model where a term needs it: within the trained one, or a copy."""
        if not needs_start_model(terms):
            return None
        found = self.adapter.start(model)
        if found is not None:
            return found
        precision, storage = self.recipe.precision, self.adapter.storage
        return session.trainable(folder, precision, storage=storage).eval()

    def rows_in_tokens(
        self, tokenizer: Any, max_tokens: int, context: StageContext, terms: tuple[Term, ...]
    ) -> tuple[list[Encoded], list[Encoded]]:
        """Returns the forget rows, with start log-probabilities, and the retain rows, if read."""
        from unlearn_runner.data.encode import encode_rows, with_start
        from unlearn_runner.evaluation.files import read_logprobs

        forget = encode_rows(tokenizer, self.template, self.forget, max_tokens)
        if self.start_logprobs is not None:
            start = read_logprobs(context.path(self.start_logprobs), FORGET)
            forget = with_start(forget, list(start.values()))
        if not any(term.split in ("retain", "mixed") for term in terms):
            return forget, []
        return forget, encode_rows(tokenizer, self.template, self.retain, max_tokens)

    def extra_splits(self, tokenizer: Any, max_tokens: int, context: StageContext) -> ExtraSplits:
        """Returns what the method's terms need beside the rows: other answers, tails."""
        from unlearn_runner.data.encode import encode_row
        from unlearn_runner.evaluation.files import read_logprobs
        from unlearn_runner.training.alternatives import AlternativeAnswers, ExtraSplits

        def encoder(rows: Rows) -> Callable[[int, str], Encoded]:
            def encode(row: int, text: str) -> Encoded:
                where = f"{text[:60]!r} as answer"
                return encode_row(tokenizer, self.template, rows[row], max_tokens, where, text)

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
