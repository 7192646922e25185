"""Alternative answers: alternates sampled, and the start log-probabilities of what is drawn.

Alternates are sampled from the start model once and shared by every run from it. Of refusals only
those pairs of question and refusal are scored that the run will draw, a small part of all of them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from unlearn_runner.data.prompts import Prompting
from unlearn_runner.data.rows import Rows
from unlearn_runner.evaluation import schema
from unlearn_runner.evaluation.schema import ScoredAnswer
from unlearn_runner.methods.altpo import Alternates
from unlearn_runner.pipeline.stages.base import Stage, StageContext
from unlearn_runner.pipeline.stages.start_logprobs import StartLogprobs
from unlearn_runner.store.artifact import Outcome

ALTERNATES = "alternates.jsonl"
VIEW = "other"
"""View name of its evidence file."""


@dataclass(frozen=True)
class SampleAlternates(Stage):
    """Samples other answers to the forget questions from the start model."""

    model: Stage
    template: Prompting
    rows: Rows
    setting: Alternates
    seed: int

    kind: ClassVar[str] = "alternates"
    order: ClassVar[int] = 1

    def reads(self) -> str:
        """Names the rows and the model."""
        return f"{self.model.label}, {len(self.rows)} rows ({self.rows.name})"

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


def read_alternates(folder: Path) -> list[list[str]]:
    """Returns per forget row its alternates, in row order."""
    text = (folder / ALTERNATES).read_text(encoding="utf-8")
    return [json.loads(line) for line in text.split("\n") if line]


@dataclass(frozen=True, kw_only=True)
class AlternativeLogprobs(StartLogprobs):
    """Log-probabilities, under the start model, of the other answers that a run will draw."""

    alternates: Stage | None
    refusals: tuple[str, ...]
    """What is drawn from when there are no alternates."""
    seed: int
    drawn_by: tuple[int, int]
    """Steps of the run, and rows per step."""

    def reads(self) -> str:
        """Names the model, and how many visits draw."""
        steps, batch = self.drawn_by
        what = f"{len(self.refusals)} refusals" if self.refusals else "alternates"
        return f"{self.model.label}, {what} as drawn in {steps} x {batch} visits"

    def run(self, context: StageContext) -> Outcome:
        """Runs the log-probability probe over the distinct pairs."""
        from unlearn_runner.data.encode import Encoded, encode_whole
        from unlearn_runner.training.batches import Sampler

        texts = self.texts(context)
        steps, batch = self.drawn_by
        sampler = Sampler(self.seed, len(self.rows), batch)
        visits = [visit for step in range(steps) for visit in sampler.step(step)]
        pairs = sorted(
            {
                (row, sampler.alternative("forget", epoch, row, len(texts[row])))
                for epoch, row in visits
            }
        )
        answers = [ScoredAnswer(row, "other", choice, texts[row][choice]) for row, choice in pairs]

        def encode(tokenizer: Any, limit: int) -> list[Encoded]:
            return [
                encode_whole(
                    tokenizer,
                    self.template,
                    self.rows[row].question,
                    text,
                    limit,
                    f"refusal {text!r}",
                )
                for row, _, _, text in answers
            ]

        self.record(context, VIEW, answers, encode)
        return "completed"

    def texts(self, context: StageContext) -> list[tuple[str, ...]] | list[list[str]]:
        """Returns per row the other answers to choose from."""
        return alternative_texts(context, self.alternates, self.refusals, len(self.rows))


def alternative_texts(
    context: StageContext, alternates: Stage | None, refusals: tuple[str, ...], rows: int
) -> list[tuple[str, ...]] | list[list[str]]:
    """Returns per row the other answers to choose from: its alternates, or all refusals."""
    if alternates is not None:
        return read_alternates(context.path(alternates))
    return [refusals] * rows


def read_logprobs(folder: Path) -> Mapping[tuple[int, int], Any]:
    """Returns per-token log-probabilities by (row, choice)."""
    return schema.read_logprobs(folder, VIEW)
