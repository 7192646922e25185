"""Start log-probabilities: the start model's, of the forget answers, computed once.

NPO and its kin need one number of the start model per token of a few hundred rows. Storing those
replaces a second model kept through training, with identical arithmetic.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from unlearn_runner.data.prompts import Prompting
from unlearn_runner.data.rows import Rows
from unlearn_runner.evaluation.schema import ScoredAnswer, read_logprobs, write_logprobs
from unlearn_runner.pipeline.stages.base import Stage, StageContext
from unlearn_runner.store.artifact import Outcome
from unlearn_runner.store.keys import INERT

if TYPE_CHECKING:
    from unlearn_runner.data.encode import Encoded

VIEW = "forget"
"""View name of its evidence file."""


@dataclass(frozen=True)
class StartLogprobs(Stage):
    """Log-probabilities of the forget answers under the model that unlearning starts from."""

    model: Stage
    template: Prompting
    rows: Rows
    max_length: int
    precision: str
    batch_size: int = field(metadata=INERT)
    storage: str = "float32"
    """Number format of the weights: as the trained model keeps those it does not train."""

    kind: ClassVar[str] = "start"
    order: ClassVar[int] = 1

    def reads(self) -> str:
        """Names the rows and the model."""
        return f"{self.model.label}, {len(self.rows)} rows ({self.rows.name})"

    def run(self, context: StageContext) -> Outcome:
        """Runs the log-probability probe over the answers."""
        from unlearn_runner.data.encode import encode_rows

        rows = enumerate(self.rows)
        answers = [ScoredAnswer(i, "answer", 0, row.answer) for i, row in rows]
        self.record(
            context,
            VIEW,
            answers,
            lambda tokenizer, limit: encode_rows(tokenizer, self.template, self.rows, limit),
        )
        return "completed"

    def record(
        self,
        context: StageContext,
        view: str,
        answers: Sequence[ScoredAnswer],
        encode: Callable[[Any, int], list[Encoded]],
    ) -> None:
        """Writes the log-probabilities of answers.

        Args:
            context: Where to.
            view: Name of the evidence.
            answers: What is scored.
            encode: From the tokenizer and a bound on tokens to the answers in tokens.
        """
        from unlearn_runner.data.encode import length_limit
        from unlearn_runner.evaluation.probes.logprobs import probe
        from unlearn_runner.models.load import load_model, load_tokenizer

        session, folder = context.open_session(), context.path(self.model)
        tokenizer, attention = load_tokenizer(folder), session.attention
        model = load_model(folder, self.precision, session.device, attention, self.storage).eval()
        encoded = encode(tokenizer, length_limit(model, self.max_length))
        pad, size = tokenizer.pad_token_id, self.batch_size
        with session.autocast(self.precision):
            stats = probe(model, encoded, pad, size, self.label, session.ranks)
        if session.ranks.main:
            write_logprobs(context.folder, view, answers, stats)


def read(folder: Path) -> list[Any]:
    """Returns per forget row its per-token log-probabilities, in row order."""
    return list(read_logprobs(folder, VIEW).values())
