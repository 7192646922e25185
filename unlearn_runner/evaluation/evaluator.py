"""Evaluator: runs the probes over every view and leaves the evidence."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unlearn_runner.data.prompts import Prompting
from unlearn_runner.data.rows import Rows
from unlearn_runner.evaluation.benchmarks.base import Generation
from unlearn_runner.evaluation.schema import (
    PROBES,
    Probe,
    scored_answers,
    write_choices,
    write_generations,
    write_logprobs,
)
from unlearn_runner.store.keys import INERT

if TYPE_CHECKING:
    from unlearn_runner.distributed.ranks import Ranks


@dataclass(frozen=True)
class Evaluator:
    """Settings of the probes: rows by view, prompts, lengths, precision."""

    template: Prompting
    views: dict[str, Rows]
    generation: Generation
    max_length: int
    precision: str
    batch_size: int = field(metadata=INERT)
    probes: dict[str, tuple[Probe, ...]] = field(default_factory=dict)
    """By view; a view that is not named has all."""

    def run(self, model: Any, tokenizer: Any, folder: Path, title: str, ranks: Ranks) -> None:
        """Writes the evidence of every view, in the files that `schema.evidence_file` names.

        Args:
            model: A causal LM in eval mode.
            tokenizer: Its tokenizer.
            folder: Where the evidence goes.
            title: Name of the progress bars.
            ranks: Sharers of the work; every rank must call it, rank 0 writes.
        """
        from unlearn_runner.data.encode import encode_rows, encode_whole, length_limit, stops
        from unlearn_runner.evaluation.probes.choices import score_choices
        from unlearn_runner.evaluation.probes.generations import generate
        from unlearn_runner.evaluation.probes.logprobs import probe

        size, max_tokens = self.batch_size, length_limit(model, self.max_length)
        ends = stops(tokenizer, self.template)
        for name, rows in self.views.items():
            probes = self.probes.get(name, PROBES)
            if "logprobs" in probes:
                answers = scored_answers(rows)
                encoded = [
                    encode_whole(
                        tokenizer,
                        self.template,
                        rows[i].question,
                        text,
                        max_tokens,
                        f"{rows.name} row {i + 1}, {role} answer",
                    )
                    for i, role, _, text in answers
                ]
                pad = tokenizer.pad_token_id
                stats = probe(model, encoded, pad, size, f"{title}, {name} answers", ranks)
                if ranks.main:
                    write_logprobs(folder, name, answers, stats)
            if "choices" in probes:
                label = f"{title}, {name} choices"
                scored = score_choices(model, tokenizer, rows, size, label, ranks)
                if ranks.main:
                    write_choices(folder, name, scored)
            if "generations" in probes:
                prompts = encode_rows(tokenizer, self.template, rows, max_tokens)
                label = f"{title}, {name} generation"
                texts = generate(
                    model, tokenizer, prompts, self.generation, ends, size, label, ranks
                )
                if ranks.main:
                    write_generations(folder, name, rows, texts)
