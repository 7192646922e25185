"""Start log-probabilities: the start model's, of the forget answers, computed once.

NPO and its kin need one number of the start model per token of a few hundred rows. Storing those
replaces a second model held through training, with identical arithmetic.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from unlearn_runner.data.prompts import Prompting
from unlearn_runner.data.rows import Rows
from unlearn_runner.pipeline.stages.base import Stage, StageContext
from unlearn_runner.store.artifact import Outcome
from unlearn_runner.store.keys import INERT

VIEW = "forget"
"""What its evidence file is named after."""


@dataclass(frozen=True)
class StartLogprobs(Stage):
    """Scores the forget answers under the model that unlearning starts from."""

    model: Stage
    template: Prompting
    rows: Rows
    max_length: int
    precision: str
    batch_size: int = field(metadata=INERT)
    storage: str = "float32"
    """Number format of the weights: as the trained model holds those it does not train."""

    kind: ClassVar[str] = "start"
    order: ClassVar[int] = 1

    def reads(self) -> str:
        """Names the rows and the model."""
        return f"{self.model.label}, {len(self.rows)} rows ({self.rows.name})"

    def run(self, context: StageContext) -> Outcome:
        """Runs the log-probability probe over the answers."""
        from unlearn_runner.data.encode import encode_rows, length_limit
        from unlearn_runner.evaluation.probes.evidence import write_logprobs
        from unlearn_runner.evaluation.probes.logprobs import probe
        from unlearn_runner.evaluation.schema import ScoredAnswer
        from unlearn_runner.models.load import load_model, load_tokenizer

        session = context.open_session()
        folder = context.path(self.model)
        tokenizer = load_tokenizer(folder)
        device, attention = session.device, session.attention
        model = load_model(folder, self.precision, device, attention, self.storage).eval()
        encoded = encode_rows(
            tokenizer, self.template, self.rows, length_limit(model, self.max_length)
        )
        with session.autocast(self.precision):
            stats = probe(
                model, encoded, tokenizer.pad_token_id, self.batch_size, self.label, session.ranks
            )
        rows = enumerate(self.rows)
        answers = [ScoredAnswer(i, "answer", 0, row.answer) for i, row in rows]
        if session.ranks.main:
            write_logprobs(context.folder, VIEW, answers, stats)
        return "completed"


def read(folder: Path) -> list[Any]:
    """Returns per forget row its per-token log-probabilities, in row order."""
    from unlearn_runner.evaluation.probes.evidence import read_logprobs

    return list(read_logprobs(folder, VIEW).values())
