"""Evaluator: runs the probes over every view and leaves the evidence."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from unlearn_runner.data.prompts import Prompting
from unlearn_runner.data.rows import Rows
from unlearn_runner.evaluation.schema import (
    GENERATING,
    PROBES,
    Generation,
    Probe,
    Sampling,
    ScoredAnswer,
    scored_answers,
    write_choices,
    write_generations,
    write_logprobs,
    write_prefixes,
    write_samples,
)
from unlearn_runner.store.keys import INERT

if TYPE_CHECKING:
    from unlearn_runner.distributed.ranks import Ranks

T = TypeVar("T")


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
    samplings: dict[str, Sampling] = field(default_factory=dict)
    """By view that is sampled from, where it is not the default."""

    def of_views(self, names: Collection[str]) -> Evaluator:
        """Returns the evaluator of some views alone."""

        def chosen(by_view: dict[str, T]) -> dict[str, T]:
            return {name: value for name, value in by_view.items() if name in names}

        return replace(
            self,
            views=chosen(self.views),
            probes=chosen(self.probes),
            generations=chosen(self.generations),
            samplings=chosen(self.samplings),
        )

    def teacher_forced(self) -> Evaluator:
        """Returns the evaluator without the probes that generate."""
        probes = {
            name: tuple(p for p in self.probes.get(name, PROBES) if p not in GENERATING)
            for name in self.views
        }
        return replace(self, probes=probes)

    def run(
        self,
        model: Any,
        tokenizer: Any,
        folder: Path,
        title: str,
        ranks: Ranks,
        attempt: Path | None = None,
    ) -> None:
        """Writes the evidence of every view, in the files that `schema.evidence_file` names.

        Args:
            model: A causal LM in eval mode.
            tokenizer: Its tokenizer.
            folder: Where the evidence goes.
            title: Name of the progress bars.
            ranks: Sharers of the work; every rank must call it, rank 0 writes.
            attempt: Folder that keeps every batch until the evaluation is whole: a later attempt
                computes none of them again. None keeps nothing.
        """
        from unlearn_runner.data.encode import encode_row, encode_rows, length_limit, stops
        from unlearn_runner.evaluation.probes.choices import score_choices
        from unlearn_runner.evaluation.probes.journal import journal_of
        from unlearn_runner.evaluation.probes.logprobs import packing, probe
        from unlearn_runner.evaluation.probes.prefixes import continuations
        from unlearn_runner.evaluation.probes.samples import sample_answers

        size, max_tokens = self.batch_size, length_limit(model, self.max_length)
        asked: dict[Generation, list[_Asked]] = {}
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
                journal = journal_of(attempt, name, "logprobs", **packing())
                label = f"{title}, {name} answers"
                stats = probe(model, encoded, pad, size, label, ranks, journal)
                if ranks.main:
                    write_logprobs(folder, name, answers, stats)
                    known = _hits(answers, stats)
                known = ranks.broadcast(known)
            if "choices" in probes:
                label = f"{title}, {name} choices"
                journal = journal_of(attempt, name, "choices")
                scored = score_choices(model, tokenizer, rows, size, label, ranks, journal)
                if ranks.main:
                    write_choices(folder, name, scored)
            if "generations" in probes:
                prompts = encode_rows(tokenizer, self.template, rows, max_tokens)
                how = self.generations.get(name, self.generation)
                hits = known or [()] * len(prompts)
                asked.setdefault(how, []).append(_Asked(name, prompts, hits))
            if "samples" in probes:
                prompts = encode_rows(tokenizer, self.template, rows, max_tokens)
                label = f"{title}, {name} samples"
                how = self.generations.get(name, self.generation)
                drawn = self.samplings.get(name, Sampling())
                journal = journal_of(attempt, name, "samples")
                ends = stops(tokenizer, self.template)
                sampled = (prompts, how, drawn, ends, label, ranks, journal)
                found = sample_answers(model, tokenizer, *sampled)
                if ranks.main:
                    write_samples(folder, name, found)
            if "prefixes" in probes:
                sequences = encode_rows(tokenizer, self.template, rows, max_tokens)
                label = f"{title}, {name} prefixes"
                journal = journal_of(attempt, name, "prefixes")
                given = (sequences, known, size, label, ranks, journal)
                found = continuations(model, tokenizer, *given)
                if ranks.main:
                    write_prefixes(folder, name, sequences, found)
        for number, (how, views) in enumerate(asked.items()):
            journal = journal_of(attempt, f"views-{number}", "generations")
            texts = self._texts(model, tokenizer, how, views, title, ranks, journal)
            for view in views if ranks.main else ():
                mine = list(islice(texts, len(view.prompts)))
                write_generations(folder, view.name, self.views[view.name], mine)

    def _texts(
        self,
        model: Any,
        tokenizer: Any,
        how: Generation,
        views: Sequence[_Asked],
        title: str,
        ranks: Ranks,
        journal: Any,
    ) -> Iterator[str]:
        """Yields generated answers, view after view.

        All views together: every batch has a last row, which is generated nearly alone.
        """
        from unlearn_runner.data.encode import stops
        from unlearn_runner.evaluation.probes.generations import generate

        ends, label = stops(tokenizer, self.template), f"{title}, generation"
        prompts = [row for view in views for row in view.prompts]
        hits = [row for view in views for row in view.hits]
        given = (prompts, how, ends, self.batch_size, label, ranks, hits, journal)
        return iter(generate(model, tokenizer, *given))


class _Asked(NamedTuple):
    """A view whose questions are to be answered."""

    name: str
    prompts: Sequence[Any]
    """Rows in tokens."""
    hits: Sequence[Sequence[bool]]
    """Per row, what is known of its own answer's tokens; see `_hits`."""


def _hits(answers: Sequence[ScoredAnswer], stats: Sequence[Any]) -> list[Any]:
    """Returns which tokens of each row's own answer alone were the likeliest; [tokens] per row."""
    pairs = zip(answers, stats, strict=True)
    return [one.sole for answer, one in pairs if answer.role == "answer"]
