"""Evaluator: runs the probes over every view and leaves the evidence."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unlearn_runner.data.prompts import Prompting
from unlearn_runner.data.rows import Rows
from unlearn_runner.evaluation.schema import (
    GENERATING,
    PROBES,
    Generation,
    Probe,
    ScoredAnswer,
    scored_answers,
    write_choices,
    write_generations,
    write_logprobs,
    write_prefixes,
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
    """By view; a view that is not named has log-probabilities and generations."""
    generations: dict[str, Generation] = field(default_factory=dict)
    """By view, where it is not `generation`."""

    def of_views(self, names: Collection[str]) -> Evaluator:
        """Returns the evaluator of some views alone."""
        return replace(self, views={n: rows for n, rows in self.views.items() if n in names})

    def teacher_forced(self) -> Evaluator:
        """Returns the evaluator without the probes that generate."""
        probes = {
            name: tuple(p for p in self.probes.get(name, PROBES) if p not in GENERATING)
            for name in self.views
        }
        return replace(self, probes=probes)

    def run(self, model: Any, tokenizer: Any, folder: Path, title: str, ranks: Ranks) -> None:
        """Writes the evidence of every view, in the files that `schema.evidence_file` names.

        Args:
            model: A causal LM in eval mode.
            tokenizer: Its tokenizer.
            folder: Where the evidence goes.
            title: Name of the progress bars.
            ranks: Sharers of the work; every rank must call it, rank 0 writes.
        """
        from unlearn_runner.data.encode import encode_row, encode_rows, length_limit, stops
        from unlearn_runner.evaluation.probes.choices import score_choices
        from unlearn_runner.evaluation.probes.generations import generate
        from unlearn_runner.evaluation.probes.logprobs import probe
        from unlearn_runner.evaluation.probes.prefixes import continuations

        size, max_tokens = self.batch_size, length_limit(model, self.max_length)
        ends = stops(tokenizer, self.template)
        for name, rows in self.views.items():
            probes, known = self.probes.get(name, PROBES), None
            if "logprobs" in probes:
                answers = scored_answers(rows)
                encoded = [
                    encode_row(
                        tokenizer,
                        self.template,
                        rows[i],
                        max_tokens,
                        f"{rows.name} row {i + 1}, {role} answer",
                        text,
                    )
                    for i, role, _, text in answers
                ]
                pad = tokenizer.pad_token_id
                stats = probe(model, encoded, pad, size, f"{title}, {name} answers", ranks)
                if ranks.main:
                    write_logprobs(folder, name, answers, stats)
                    known = _hits(answers, stats)
            if "choices" in probes:
                label = f"{title}, {name} choices"
                scored = score_choices(model, tokenizer, rows, size, label, ranks)
                if ranks.main:
                    write_choices(folder, name, scored)
            if "generations" in probes:
                prompts = encode_rows(tokenizer, self.template, rows, max_tokens)
                label = f"{title}, {name} generation"
                how = self.generations.get(name, self.generation)
                texts = generate(model, tokenizer, prompts, how, ends, size, label, ranks)
                if ranks.main:
                    write_generations(folder, name, rows, texts)
            if "prefixes" in probes:
                sequences = encode_rows(tokenizer, self.template, rows, max_tokens)
                label = f"{title}, {name} prefixes"
                known = ranks.broadcast(known)
                found = continuations(model, tokenizer, sequences, known, size, label, ranks)
                if ranks.main:
                    write_prefixes(folder, name, sequences, found)


def _hits(answers: Sequence[ScoredAnswer], stats: Sequence[Any]) -> list[Any]:
    """Returns which tokens of each row's own answer were the most likely; [tokens] per row."""
    pairs = zip(answers, stats, strict=True)
    return [one.hit for answer, one in pairs if answer.role == "answer"]
