"""Evaluator: runs the probes over every view and leaves the evidence."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from unlearn_runner.data.prompts import Prompting
from unlearn_runner.data.rows import Rows
from unlearn_runner.evaluation.files import (
    write_choices,
    write_clean,
    write_generations,
    write_gradients,
    write_logprobs,
    write_patched,
    write_prefixes,
    write_samples,
)
from unlearn_runner.evaluation.schema import (
    GENERATING,
    PROBES,
    Generation,
    Probe,
    Sampling,
    scored_answers,
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
        return self.without(GENERATING)

    def without(self, left_out: Collection[Probe]) -> Evaluator:
        """Returns the evaluator without some of the probes."""
        probes = {
            name: tuple(p for p in self.probes.get(name, PROBES) if p not in left_out)
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
        target: Any | None = None,
        classifier: Path | None = None,
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
            target: The model that unlearning starts from, in eval mode, for the probe `patched`.
            classifier: Folder of what the probe `clean` asks.
        """
        from unlearn_runner.data.encode import length_limit

        limit = length_limit(model, self.max_length)
        given = (model, tokenizer, folder, title, ranks, attempt, limit, target, classifier)
        probes = _Probes(self, *given)
        pending: dict[Generation, list[_Prompted]] = {}
        for name, rows in self.views.items():
            wanted = self.probes.get(name, PROBES)
            scored = probes.logprobs(name, rows) if "logprobs" in wanted else None
            if "choices" in wanted:
                probes.choices(name, rows)
            if "generations" in wanted:
                how = self.generations.get(name, self.generation)
                pending.setdefault(how, []).append(scored or probes.prompted(name, rows))
            if "samples" in wanted:
                probes.samples(name, rows)
            if "prefixes" in wanted:
                probes.prefixes(name, rows, scored.hits if scored else None)
            if "gradients" in wanted:
                probes.gradients(name, rows)
            if "patched" in wanted:
                probes.patched(name, rows)
        for number, (how, views) in enumerate(pending.items()):
            probes.generations(number, how, views)


class _Prompted(NamedTuple):
    """A view whose questions are to be answered."""

    name: str
    prompts: Sequence[Any]
    """Rows in tokens."""
    hits: Sequence[Any]
    """Per row, which tokens of its own answer are the only likeliest ones."""
    said: Sequence[Sequence[int]]
    """Per row, the first tokens of the model's answer, as far as they are known."""


@dataclass(frozen=True)
class _Probes:
    """The probes of one evaluation of one model; every rank calls each, rank 0 writes."""

    settings: Evaluator
    model: Any
    tokenizer: Any
    folder: Path
    title: str
    ranks: Ranks
    attempt: Path | None
    max_tokens: int
    target: Any | None
    classifier: Path | None

    def encoded(self, rows: Rows) -> Sequence[Any]:
        """Returns rows in tokens."""
        from unlearn_runner.data.encode import encode_rows

        return encode_rows(self.tokenizer, self.settings.template, rows, self.max_tokens)

    def prompted(self, name: str, rows: Rows) -> _Prompted:
        """Returns rows of which nothing is known."""
        return _Prompted(name, self.encoded(rows), [()] * len(rows), [()] * len(rows))

    def journal(self, view: str, probe: str, **packing: Any) -> Any:
        """Returns what keeps the batches of a probe over a view, where they are kept."""
        from unlearn_runner.evaluation.probes.journal import journal_of

        return journal_of(self.attempt, view, probe, **packing)

    def logprobs(self, name: str, rows: Rows) -> _Prompted:
        """Scores all answers; returns what is then known of each row's own."""
        from unlearn_runner.data.encode import encode_row
        from unlearn_runner.evaluation.probes.logprobs import journalled, probe

        answers, settings, known = scored_answers(rows), self.settings, ((), ())
        given = (self.tokenizer, settings.template)
        encoded = [
            encode_row(
                *given, rows[i], self.max_tokens, f"{rows.name} row {i + 1}, {role} answer", text
            )
            for i, role, _, text in answers
        ]
        pad, label = self.tokenizer.pad_token_id, f"{self.title}, {name} answers"
        journal = self.journal(name, "logprobs", **journalled())
        own = [answer.role == "answer" for answer in answers]
        given = (settings.batch_size, label, self.ranks, journal, own)
        stats = probe(self.model, encoded, pad, *given)
        if self.ranks.main:
            write_logprobs(self.folder, name, answers, stats)
            mine = [one for one, is_own in zip(stats, own, strict=True) if is_own]
            known = [one.sole for one in mine], [one.said() for one in mine]
        prompts = [row for row, is_own in zip(encoded, own, strict=True) if is_own]
        return _Prompted(name, prompts, *self.ranks.broadcast(known))

    def choices(self, name: str, rows: Rows) -> None:
        """Scores the choices of every question."""
        from unlearn_runner.evaluation.probes.choices import score_choices

        label, journal = f"{self.title}, {name} choices", self.journal(name, "choices")
        given = (rows, self.settings.batch_size, label, self.ranks, journal)
        scored = score_choices(self.model, self.tokenizer, *given)
        if self.ranks.main:
            write_choices(self.folder, name, scored)

    def samples(self, name: str, rows: Rows) -> None:
        """Draws several answers to every question."""
        from unlearn_runner.data.encode import stops
        from unlearn_runner.evaluation.probes.samples import sample_answers

        settings, label = self.settings, f"{self.title}, {name} samples"
        how = settings.generations.get(name, settings.generation)
        drawn = settings.samplings.get(name, Sampling())
        ends, journal = stops(self.tokenizer, settings.template), self.journal(name, "samples")
        given = (self.encoded(rows), how, drawn, ends, label, self.ranks, journal)
        found = sample_answers(self.model, self.tokenizer, *given)
        if self.ranks.main:
            write_samples(self.folder, name, found)

    def prefixes(self, name: str, rows: Rows, known: Sequence[Any] | None) -> None:
        """Continues every beginning of every row."""
        from unlearn_runner.evaluation.probes.prefixes import continuations

        sequences, label = self.encoded(rows), f"{self.title}, {name} prefixes"
        journal = self.journal(name, "prefixes")
        given = (sequences, known, self.settings.batch_size, label, self.ranks, journal)
        found = continuations(self.model, self.tokenizer, *given)
        if self.ranks.main:
            write_prefixes(self.folder, name, sequences, found)

    def gradients(self, name: str, rows: Rows) -> None:
        """Takes norms of the gradient of each row's loss."""
        from unlearn_runner.evaluation.probes.gradients import gradient_norms

        label, journal = f"{self.title}, {name} gradients", self.journal(name, "gradients")
        size, pad = self.settings.batch_size, self.tokenizer.pad_token_id
        given = (self.encoded(rows), pad, size, label, self.ranks, journal)
        found = gradient_norms(self.model, *given)
        if self.ranks.main:
            write_gradients(self.folder, name, found)

    def patched(self, name: str, rows: Rows) -> None:
        """Writes the model's states into the target, block by block."""
        from unlearn_runner.data.encode import encode_entity
        from unlearn_runner.evaluation.probes.patched import patched_logprobs

        given = (self.tokenizer, self.settings.template)
        encoded = [
            encode_entity(*given, row, self.max_tokens, f"{rows.name} row {number}")
            for number, row in enumerate(rows, 1)
        ]
        label, journal = f"{self.title}, {name} patched", self.journal(name, "patched")
        size, pad = self.settings.batch_size, self.tokenizer.pad_token_id
        how = (encoded, pad, size, label, self.ranks, journal)
        found = patched_logprobs(self.model, self.target, *how)
        if self.ranks.main:
            write_patched(self.folder, name, found)

    def generations(self, number: int, how: Generation, views: Sequence[_Prompted]) -> None:
        """Answers the questions of views together: a batch's last row is generated nearly alone."""
        from unlearn_runner.data.encode import stops
        from unlearn_runner.evaluation.probes.generations import generate

        settings, label = self.settings, f"{self.title}, generation"
        ends = stops(self.tokenizer, settings.template)
        prompts = [row for view in views for row in view.prompts]
        said = [row for view in views for row in view.said]
        journal = self.journal(f"views-{number}", "generations")
        given = (prompts, how, ends, settings.batch_size, label, self.ranks, said, journal)
        texts = iter(generate(self.model, self.tokenizer, *given))
        for view in views if self.ranks.main else ():
            mine = list(islice(texts, len(view.prompts)))
            write_generations(self.folder, view.name, settings.views[view.name], mine)
            if "clean" in settings.probes.get(view.name, PROBES):
                self.clean(view.name, mine)

    def clean(self, name: str, texts: Sequence[str]) -> None:
        """Asks the classifier about generated texts; on rank 0 alone, as it takes seconds."""
        from unlearn_runner.evaluation.probes.batching import device_of
        from unlearn_runner.evaluation.probes.clean import clean_probabilities

        assert self.classifier is not None, "the plan refuses the probe without one"
        device, label = device_of(self.model), f"{self.title}, {name} clean"
        found = clean_probabilities(self.classifier, texts, device, label)
        write_clean(self.folder, name, found)
