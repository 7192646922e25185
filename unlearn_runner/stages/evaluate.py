"""Evaluation: a model in, evidence out. Scores are a stage of their own and need no model."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from unlearn_runner.benchmarks.base import Generation
from unlearn_runner.data.rows import Rows
from unlearn_runner.models.base import Prompting
from unlearn_runner.stages.base import INERT, Outcome, Stage, Work

if TYPE_CHECKING:
    from unlearn_runner.parallel.ranks import Ranks
    from unlearn_runner.session import Session


@dataclass(frozen=True)
class Examination:
    """What a model is asked, and how."""

    template: Prompting
    views: dict[str, Rows]
    generation: Generation
    max_length: int
    precision: str
    batch_size: int = field(metadata=INERT)

    def take(
        self, model: Any, tokenizer: Any, folder: Path, title: str, ranks: Ranks | None = None
    ) -> None:
        """Writes `<view>.logprobs.parquet` and `<view>.generations.parquet`.

        Args:
            model: A causal LM in eval mode.
            tokenizer: Its tokenizer.
            folder: Where the evidence goes.
            title: What the progress is called.
            ranks: Who shares the work; every rank must call it, rank 0 writes.
        """
        from unlearn_runner.data.encode import encode_rows, encode_whole, room, stops
        from unlearn_runner.parallel.ranks import ALONE
        from unlearn_runner.probes.evidence import answers, write_generations, write_logprobs
        from unlearn_runner.probes.generations import generate
        from unlearn_runner.probes.logprobs import probe

        ranks = ranks or ALONE
        size, most = self.batch_size, room(model, self.max_length)
        ends = stops(tokenizer, self.template)
        for name, rows in self.views.items():
            asked = answers(rows)
            encoded = [
                encode_whole(
                    tokenizer,
                    self.template,
                    rows[i].question,
                    text,
                    most,
                    f"{rows.name} row {i + 1}, {role} answer",
                )
                for i, role, _, text in asked
            ]
            pad = tokenizer.pad_token_id
            probed = probe(model, encoded, pad, size, f"{title}, {name} answers", ranks)
            if ranks.main:
                write_logprobs(folder / f"{name}.logprobs.parquet", name, asked, probed)
            prompts = encode_rows(tokenizer, self.template, rows, most)
            texts = generate(
                model,
                tokenizer,
                prompts,
                self.generation,
                ends,
                size,
                f"{title}, {name} generation",
                ranks,
            )
            if ranks.main:
                write_generations(folder / f"{name}.generations.parquet", name, rows, texts)


@dataclass(frozen=True)
class Evaluate(Stage):
    """Runs both probes over every view, once."""

    model: Stage
    examination: Examination
    base: Stage | None = None
    """The model that `model` starts from, when it left an adapter instead of a whole one."""

    kind: ClassVar[str] = "evaluate"

    def reads(self) -> str:
        """Names the model and the views."""
        views = self.examination.views.items()
        listed = ", ".join(f"{name} {len(rows)}" for name, rows in views)
        models = (
            self.model.label if self.base is None else f"{self.model.label} on {self.base.label}"
        )
        return f"{models}, rows of {listed}"

    def run(self, work: Work) -> Outcome:
        """Loads the model and examines it."""
        from unlearn_runner.models.load import load_tokenizer

        session = work.open_session()
        folder = work.path(self.model)
        tokenizer = load_tokenizer(folder)
        precision, base = self.examination.precision, self.base and work.path(self.base)
        model = session.frozen(folder, precision, base)
        self.examination.take(model, tokenizer, work.folder, self.label, session.ranks)
        return "completed"


@dataclass(frozen=True)
class Along:
    """Examinations while a model is unlearned."""

    steps: tuple[int, ...]
    """After which optimizer steps."""
    examination: Examination
    models: bool = False
    """Whether the models of those steps are kept, too."""

    def take(
        self,
        step: int,
        model: Any,
        tokenizer: Any,
        work: Work,
        title: str,
        save: Callable[[Path], None],
    ) -> None:
        """Examines the model after `step` when it is due, unless that was done before a kill.

        Args:
            step: Optimizer steps done.
            model: As it is then.
            tokenizer: Its tokenizer.
            work: Where to.
            title: What the progress is called.
            save: Writes the model into a folder.
        """
        if step not in self.steps:
            return
        session: Session = work.open_session()
        ranks, room = session.ranks, work.checkpoints / folder(step)
        if ranks.tell(room.exists()):
            return
        unfinished = room.with_name(f".{room.name}")
        unfinished.mkdir(exist_ok=True)
        model.eval()
        with session.layout.autocast(self.examination.precision):
            self.examination.take(model, tokenizer, unfinished, f"{title} at step {step}", ranks)
        if self.models:
            save(unfinished / "model")
        if ranks.main:
            unfinished.rename(room)
        ranks.wait()

    def collect(self, work: Work) -> None:
        """Puts the evidence of all steps into the stage's artifact.

        It stays where it was, too: a run that is killed before the artifact is published goes on
        from a checkpoint, and makes none of an earlier step.
        """
        for step in self.steps:
            taken, place = work.checkpoints / folder(step), work.folder / folder(step)
            shutil.copytree(taken, place, copy_function=_linked)


def _linked(source: str, target: str) -> None:
    try:
        os.link(source, target)  # models may have gigabytes
    except OSError:  # not every file system has links
        shutil.copy2(source, target)


def folder(step: int) -> str:
    """Returns the name of the folder of one step's evidence."""
    return f"step-{step:06d}"
