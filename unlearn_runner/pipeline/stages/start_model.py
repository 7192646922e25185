"""What is computed of the start model once: alternates sampled from it, and log-probabilities.

NPO and its kin need one number of the start model per token of a few hundred rows. Storing those
replaces a second model kept through training, with identical arithmetic. Of refusals only those
pairs of question and refusal are scored that the run will draw, a small part of all of them.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from unlearn_runner.data.prompts import Prompting
from unlearn_runner.data.rows import Rows
from unlearn_runner.evaluation.schema import ScoredAnswer
from unlearn_runner.methods.altpo import Alternates
from unlearn_runner.pipeline.stages.base import Stage, StageContext
from unlearn_runner.store.artifact import Outcome
from unlearn_runner.store.keys import INERT

if TYPE_CHECKING:
    from unlearn_runner.data.encode import Encoded

ALTERNATES = "alternates.jsonl"
FORGET, OTHER = "forget", "other"
"""View names of the evidence of forget answers and of other answers."""


@dataclass(frozen=True)
class OfStartModel(Stage):
    """Base class of stages that ask the model that unlearning starts from."""

    model: Stage
    template: Prompting
    rows: Rows

    order: ClassVar[int] = 1

    def reads(self) -> str:
        """Names the rows and the model."""
        return f"{self.model.label}, {len(self.rows)} rows ({self.rows.name})"


@dataclass(frozen=True)
class SampleAlternates(OfStartModel):
    """Samples other answers to the forget questions; every run from this model shares them."""

    setting: Alternates
    seed: int

    kind: ClassVar[str] = "alternates"

    def run(self, context: StageContext) -> Outcome:
        """Generates, and writes one line of texts per row."""
        from unlearn_runner.evaluation.probes.alternates import sample
        from unlearn_runner.models.load import load_model, load_tokenizer

        session = context.open_session()
        folder = context.path(self.model)
        tokenizer = load_tokenizer(folder)
        model = load_model(folder, "float32", session.device, session.attention).eval()
        texts = sample(
            model, tokenizer, self.template, self.rows, self.setting, self.seed, session.ranks
        )
        if session.ranks.main:
            lines = [json.dumps(found, ensure_ascii=False) for found in texts]
            (context.folder / ALTERNATES).write_text("\n".join(lines) + "\n", encoding="utf-8")
        return "completed"


def alternative_texts(
    context: StageContext, alternates: Stage | None, refusals: tuple[str, ...], rows: int
) -> Sequence[Sequence[str]]:
    """Returns per row the other answers to choose from: its alternates, or all refusals."""
    return [refusals] * rows if alternates is None else read_alternates(context.path(alternates))


def read_alternates(folder: Path) -> list[list[str]]:
    """Returns per forget row its alternates, in row order."""
    text = (folder / ALTERNATES).read_text(encoding="utf-8")
    return [json.loads(line) for line in text.split("\n") if line]


@dataclass(frozen=True, kw_only=True)
class StartLogprobs(OfStartModel):
    """Log-probabilities of the forget answers under the start model."""

    max_length: int
    precision: str
    batch_size: int = field(metadata=INERT)
    storage: str
    """Number format of the weights: as the trained model keeps those it does not train."""

    kind: ClassVar[str] = "start"
    view: ClassVar[str] = FORGET
    """View name of its evidence file."""

    def run(self, context: StageContext) -> Outcome:
        """Runs the log-probability probe over the answers."""
        from unlearn_runner.data.encode import length_limit
        from unlearn_runner.evaluation.files import write_logprobs
        from unlearn_runner.evaluation.probes.logprobs import probe
        from unlearn_runner.models.load import load_model, load_tokenizer

        session, folder = context.open_session(), context.path(self.model)
        tokenizer, attention = load_tokenizer(folder), session.attention
        model = load_model(folder, self.precision, session.device, attention, self.storage).eval()
        answers = self.answers(context)
        encoded = self.encode(tokenizer, answers, length_limit(model, self.max_length))
        pad, size = tokenizer.pad_token_id, self.batch_size
        with session.autocast(self.precision):
            stats = probe(model, encoded, pad, size, self.label, session.ranks)
        if session.ranks.main:
            write_logprobs(context.folder, self.view, answers, stats)
        return "completed"

    def answers(self, context: StageContext) -> list[ScoredAnswer]:
        """Returns the answers that are scored."""
        return [ScoredAnswer(i, "answer", 0, row.answer) for i, row in enumerate(self.rows)]

    def encode(
        self, tokenizer: Any, answers: Sequence[ScoredAnswer], max_tokens: int
    ) -> list[Encoded]:
        """Returns these answers, behind their questions, in tokens."""
        from unlearn_runner.data.encode import encode_rows

        return encode_rows(tokenizer, self.template, self.rows, max_tokens)


@dataclass(frozen=True, kw_only=True)
class AlternativeLogprobs(StartLogprobs):
    """Log-probabilities, under the start model, of the other answers that a run will draw."""

    alternates: Stage | None
    refusals: tuple[str, ...]
    """What is drawn from when there are no alternates."""
    seed: int
    drawn_by: tuple[int, int]
    """Steps of the run, and rows per step."""

    view: ClassVar[str] = OTHER

    def reads(self) -> str:
        """Names the model, and how many visits draw."""
        steps, batch = self.drawn_by
        what = f"{len(self.refusals)} refusals" if self.refusals else "alternates"
        return f"{self.model.label}, {what} as drawn in {steps} x {batch} visits"

    def answers(self, context: StageContext) -> list[ScoredAnswer]:
        """Returns each distinct pair of row and other answer that is drawn."""
        from unlearn_runner.training.batches import Sampler

        texts = alternative_texts(context, self.alternates, self.refusals, len(self.rows))
        steps, batch = self.drawn_by
        sampler = Sampler(self.seed, len(self.rows), batch)
        visits = [visit for step in range(steps) for visit in sampler.step(step)]
        pairs = {
            (row, sampler.alternative("forget", epoch, row, len(texts[row])))
            for epoch, row in visits
        }
        return [ScoredAnswer(row, "other", i, texts[row][i]) for row, i in sorted(pairs)]

    def encode(
        self, tokenizer: Any, answers: Sequence[ScoredAnswer], max_tokens: int
    ) -> list[Encoded]:
        """Returns these answers, behind their questions, in tokens."""
        from unlearn_runner.data.encode import encode_row

        template, rows = self.template, self.rows
        return [
            encode_row(tokenizer, template, rows[row], max_tokens, f"refusal {text!r}", text)
            for row, _, _, text in answers
        ]
