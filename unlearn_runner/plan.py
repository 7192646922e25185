"""The plan of a run: which stages it needs, in order, with their keys. Pure, and free of torch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import cast

from unlearn_runner.benchmarks.base import Splits, View
from unlearn_runner.config import Run
from unlearn_runner.data.rows import Rows
from unlearn_runner.demands import edit, provide
from unlearn_runner.errors import ConfigError
from unlearn_runner.methods.base import needs_start_logprobs
from unlearn_runner.methods.oneshot import OneShot
from unlearn_runner.models.pretrained import Pretrained
from unlearn_runner.models.scratch import Scratch
from unlearn_runner.stages.along import ScoreAlong
from unlearn_runner.stages.base import Stage
from unlearn_runner.stages.edit import Edit
from unlearn_runner.stages.evaluate import Along, Evaluate, Examination
from unlearn_runner.stages.finetune import Finetune
from unlearn_runner.stages.given import given
from unlearn_runner.stages.others import OtherNumbers, Sample
from unlearn_runner.stages.pretrain import Pretrain
from unlearn_runner.stages.score import RetainLog, Score, Source
from unlearn_runner.stages.start import StartNumbers
from unlearn_runner.stages.unlearn import Unlearn


@dataclass(frozen=True)
class Plan:
    """The stages of a run in an order in which each finds what it reads."""

    stages: tuple[Stage, ...]
    scores: dict[str, Stage]
    """Score stage by whose scores they are: "target", "unlearned", "reference"."""
    along: Stage | None = None
    """The stage with the scores along the way."""
    wanted: tuple[Stage, ...] = ()
    """What the run is for; the other stages are computed only where one of these needs them."""
    log: RetainLog | None = None
    """What stands for the retain-only model, when a log does."""
    data: Data | None = None
    """The rows it was made from."""


@dataclass(frozen=True)
class Data:
    """A benchmark's rows, read and checked; jobs of a sweep share them."""

    splits: Splits
    views: dict[str, tuple[View, Rows]]


def plan(run: Run, data: Data | None = None) -> Plan:
    """Returns the stages the run needs.

    Args:
        run: What is wanted.
        data: The benchmark's rows where they have been read; else they are, and checked.

    Raises:
        DataError: If a split is missing or malformed.
    """
    if data is None:
        data = Data(run.benchmark.splits(), run.benchmark.views())
    splits, views = data.splits, data.views
    base = cache(lambda: _base(run, splits))  # not looked at where nothing is fine-tuned
    models = {
        "target": _target(run, base, splits),
        "reference": _reference(run, base, splits),
    }
    examination = Examination(
        template=run.model.template,
        views={name: rows for name, (_, rows) in views.items()},
        generation=run.benchmark.generation,
        max_length=run.target.train.max_length,
        precision=run.evaluate.precision,
        batch_size=run.evaluate.batch_size,
    )
    # A one-shot method has no steps to be scored along.
    one_shot = isinstance(run.method, OneShot)
    steps = () if one_shot else run.evaluate.steps(run.train, len(splits.forget))
    along = Along(steps, examination, run.keep == "checkpoints") if steps else None
    models["unlearned"] = unlearned = _unlearn(run, cast(Stage, models["target"]), splits, along)
    bases = {} if run.adapter.whole else {"unlearned": models["target"]}
    evaluations = {
        name: Evaluate(f"evaluate {name}", model, examination, bases.get(name))
        for name, model in models.items()
        if model is not None
    }
    log = _log(run, views)
    reference: Source | None = log or evaluations.get("reference")
    how = {
        "views": {name: view for name, (view, _) in views.items()},
        "metrics": run.benchmark.metrics,
        "version": run.benchmark.version,
    }
    scores: dict[str, Stage] = {
        name: Score(label=f"score {name}", evaluated=evaluation, reference=reference, **how)
        for name, evaluation in (evaluations | ({"reference": log} if log else {})).items()
    }
    scored_along = None
    if along is not None:
        scored_along = ScoreAlong(
            label="score along", unlearned=unlearned, reference=reference, steps=steps, **how
        )
    # An adapter that is kept is of no use without what it belongs to.
    kept = [unlearned, *bases.values()] if run.keep != "scores" else []
    last = [scored_along] if scored_along is not None else []
    wanted = (*kept, *scores.values(), *last)
    return Plan(tuple(_ordered(wanted)), scores, scored_along, wanted, log, data)


def _ordered(wanted: Iterable[Stage]) -> Iterator[Stage]:
    """Yields every stage that is wanted or read by one, each after what it reads.

    Models first, then evidence, then scores: the order in which a reader expects them.
    """
    found: dict[str, Stage] = {}

    def visit(stage: Stage) -> None:
        for read in stage.inputs:
            visit(read)
        # A key is made here, from the code as it is now, not as it may be hours later.
        found.setdefault(stage.key, stage)

    for stage in wanted:
        visit(stage)
    ranks = {
        StartNumbers: 1,
        Sample: 1,
        OtherNumbers: 1,
        Unlearn: 1,
        Edit: 1,
        Evaluate: 2,
        Score: 3,
        ScoreAlong: 3,
    }
    yield from sorted(found.values(), key=lambda stage: ranks.get(type(stage), 0))


def _base(run: Run, splits: Splits) -> Stage:
    """Returns the stage whose artifact holds the model to fine-tune, and its tokenizer."""
    if isinstance(run.model, Pretrained):
        if not run.model.path:
            raise ConfigError(
                "model.path must be set: a local folder or a hub id",
                "model.path=FOLDER or model.path=owner/name",
            )
        return given("base", "model.path", run.model.path, run.model.revision)
    if not isinstance(run.model, Scratch):
        raise ConfigError(
            f"model: {type(run.model).__name__} has no stage that makes its base yet",
            "model=hf model.path=FOLDER",
        )
    return Pretrain(
        label="base",
        shape=run.model.shape,
        vocab_size=run.model.vocab_size,
        template=run.model.template,
        full=splits.full,
        rows=splits.pretrain,
        recipe=run.model.pretrain,
        seed=run.target.seed,
    )


def _target(run: Run, base: Callable[[], Stage], splits: Splits) -> Stage:
    if run.target.path is not None:
        return given("target", "target.path", run.target.path, run.target.revision)
    return _finetune(run, base(), splits.full, splits.pretrain, "target")


def _reference(run: Run, base: Callable[[], Stage], splits: Splits) -> Stage | None:
    """Returns the retain-only model; none when a log stands for it or no score asks for it."""
    if run.reference.path is not None:
        return given("reference", "reference.path", run.reference.path, run.reference.revision)
    asked = any(metric.needs_reference for metric in run.benchmark.metrics.values())
    if run.reference.log is not None or not asked:
        return None
    return _finetune(run, base(), splits.retain, splits.pretrain, "reference")


def _log(run: Run, views: dict[str, tuple[View, Rows]]) -> RetainLog | None:
    """Returns the retain-only model's log, read once so that a wrong one is refused now."""
    if run.reference.log is None:
        return None
    forget = next((name for name, (view, _) in views.items() if view.goal == "forget"), None)
    if forget is None:
        raise ConfigError(
            "reference.log: this benchmark has no forget view to compare with a log",
            "reference.log=null",
        )
    from unlearn_runner.logs.read import digest

    path = Path(run.reference.log).expanduser().absolute()
    log = RetainLog(path, digest(path), views[forget][1], forget)
    log.matched()
    return log


def _finetune(run: Run, base: Stage, rows: Rows, pretrain: Rows, label: str) -> Finetune:
    if isinstance(run.model, Scratch) and run.model.rehearse:
        rows = Rows(f"{rows.name}+{pretrain.name}", (*rows.items, *pretrain.items))
    return Finetune(
        label=label,
        base=base,
        template=run.model.template,
        rows=rows,
        recipe=run.target.train,
        seed=run.target.seed,
    )


def _unlearn(run: Run, target: Stage, splits: Splits, along: Along | None) -> Unlearn | Edit:
    if isinstance(run.method, OneShot):
        return edit(run, run.method, target, splits.forget)
    provided = provide(run, target, splits.forget)
    return Unlearn(
        label="unlearn",
        start=target,
        start_numbers=_start_numbers(run, target, splits.forget),
        template=run.model.template,
        method=run.method,
        rectifier=run.rectifier,
        groups=run.rectifier.groups(run.method.terms()),
        forget=splits.forget,
        retain=splits.retain,
        recipe=run.train,
        seed=run.seed,
        adapter=run.adapter,
        save_dtype=run.save_dtype,
        along=along,
        refusals=provided.refusals,
        alternates=provided.alternates,
        other_numbers=provided.numbers,
    )


def _start_numbers(run: Run, target: Stage, forget: Rows) -> StartNumbers | None:
    if not needs_start_logprobs(run.method.terms()):
        return None
    return StartNumbers(
        label="start numbers",
        model=target,
        template=run.model.template,
        rows=forget,
        max_length=run.train.max_length,
        precision=run.train.precision,
        storage=run.adapter.storage,
        batch_size=run.evaluate.batch_size,
    )
