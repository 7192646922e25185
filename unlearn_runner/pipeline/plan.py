"""Plan: which stages a run needs, in order, with their keys. Pure, and free of torch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

from unlearn_runner.config.root import Run
from unlearn_runner.data.rows import Rows
from unlearn_runner.errors import ConfigError
from unlearn_runner.evaluation.evaluator import Evaluator
from unlearn_runner.evaluation.logs.retain_log import RetainLog
from unlearn_runner.pipeline.inputs import Inputs, Rowsets, needs_retain_model
from unlearn_runner.pipeline.prerequisites import one_shot_stage, prerequisite_stages
from unlearn_runner.pipeline.stages.base import Stage
from unlearn_runner.pipeline.stages.evaluate import Evaluate, PeriodicEval
from unlearn_runner.pipeline.stages.finetune import Finetune
from unlearn_runner.pipeline.stages.pretrain import Pretrain
from unlearn_runner.pipeline.stages.score import Score, Source
from unlearn_runner.pipeline.stages.trajectory import ScoreTrajectory
from unlearn_runner.pipeline.stages.unlearn import Unlearn


@dataclass(frozen=True)
class Plan:
    """The stages of a run in an order in which each finds what it reads."""

    stages: tuple[Stage, ...]
    unlearn: Stage
    scores: dict[str, Score]
    """Score stage by whose scores they are: "target", "unlearned", "retain_model"."""
    wanted: tuple[Stage, ...]
    """What the run is for; the other stages are computed only where one of these needs them."""
    inputs: Inputs
    trajectory: Stage | None = None
    """The stage of the scores along the way."""


def plan(run: Run, inputs: Inputs) -> Plan:
    """Returns the stages that a run with these inputs needs.

    Raises:
        ConfigError: If the model's base can neither be found nor made, or a method's settings do
            not go with the rows.
    """
    rowsets = inputs.rowsets
    base = cache(lambda: _base(run, inputs))  # not looked at where nothing is fine-tuned
    target = inputs.target or _finetune(run, base(), rowsets.splits.full, inputs, "target")
    evaluator = _evaluator(run, rowsets)
    # A one-shot method has no steps to be scored along.
    rows = len(rowsets.splits.forget)
    steps = () if run.method.one_shot else run.evaluate.steps(run.train, rows)
    periodic_eval = PeriodicEval(steps, evaluator, run.keep == "checkpoints") if steps else None
    unlearned = _unlearn(run, target, inputs, periodic_eval)
    models: dict[str, Stage | None] = {
        "target": target,
        "retain_model": _retain_model(run, base, inputs),
        "unlearned": unlearned,
    }
    # An adapter that is kept is of no use without what it belongs to.
    bases = {} if run.adapter.whole else {"unlearned": target}
    evaluations = {
        name: Evaluate(f"evaluate {name}", model, evaluator, bases.get(name))
        for name, model in models.items()
        if model is not None
    }
    scores, trajectory = _scores(run, inputs, evaluations, unlearned, steps)
    kept: list[Stage] = [unlearned, *bases.values()] if run.keep != "scores" else []
    last = [trajectory] if trajectory is not None else []
    wanted = (*kept, *scores.values(), *last)
    return Plan(tuple(_ordered(wanted)), unlearned, scores, wanted, inputs, trajectory)


def _ordered(wanted: Iterable[Stage]) -> Iterator[Stage]:
    """Yields every stage that is wanted or read by one, each after what it reads.

    Models first, then evidence, then scores: the order in which a reader expects them.
    """
    by_key: dict[str, Stage] = {}

    def visit(stage: Stage) -> None:
        for read in stage.inputs:
            visit(read)
        # A key is made here, from the code as it is now, not as it may be hours later.
        by_key.setdefault(stage.key, stage)

    for stage in wanted:
        visit(stage)
    yield from sorted(by_key.values(), key=lambda stage: stage.order)


def _base(run: Run, inputs: Inputs) -> Stage:
    """Returns the stage whose artifact holds the model to fine-tune, and its tokenizer."""
    if inputs.base is not None:
        return inputs.base
    pretraining = run.model.pretraining
    if pretraining is None:
        raise ConfigError(
            f"model: {type(run.model).__name__} says neither where its base is found nor how it is "
            "made",
            "model=hf model.path=FOLDER",
        )
    return Pretrain(
        label="base",
        shape=pretraining.shape,
        vocab_size=pretraining.vocab_size,
        template=run.model.template,
        full=inputs.rowsets.splits.full,
        rows=inputs.rowsets.splits.pretrain,
        recipe=pretraining.pretrain,
        seed=run.target.seed,
    )


def _retain_model(run: Run, base: Callable[[], Stage], inputs: Inputs) -> Stage | None:
    """Returns the retain model; none when a log stands for it or no score compares with it."""
    if inputs.retain_model is not None or not needs_retain_model(run):
        return inputs.retain_model
    return _finetune(run, base(), inputs.rowsets.splits.retain, inputs, "retain_model")


def _finetune(run: Run, base: Stage, rows: Rows, inputs: Inputs, label: str) -> Stage:
    pretrain, made = inputs.rowsets.splits.pretrain, run.model.pretraining
    if made is not None and made.rehearse:
        rows = Rows(f"{rows.name}+{pretrain.name}", (*rows.items, *pretrain.items))
    return Finetune(
        label=label,
        base=base,
        template=run.model.template,
        rows=rows,
        recipe=run.target.train,
        seed=run.target.seed,
    )


def _evaluator(run: Run, rowsets: Rowsets) -> Evaluator:
    return Evaluator(
        template=run.model.template,
        views={name: rows for name, (_, rows) in rowsets.views.items()},
        generation=run.benchmark.generation,
        max_length=run.target.train.max_length,
        precision=run.evaluate.precision,
        batch_size=run.evaluate.batch_size,
        probes={name: view.probes for name, (view, _) in rowsets.views.items()},
    )


def _unlearn(run: Run, target: Stage, inputs: Inputs, periodic_eval: PeriodicEval | None) -> Stage:
    splits = inputs.rowsets.splits
    if run.method.one_shot:
        return one_shot_stage(run, target, splits.forget)
    needed = prerequisite_stages(run, target, splits.forget, inputs.refusals)
    return Unlearn(
        label="unlearn",
        start=target,
        start_logprobs=needed.start_logprobs,
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
        periodic_eval=periodic_eval,
        refusals=needed.refusals,
        alternates=needed.alternates,
        alternative_logprobs=needed.alternative_logprobs,
    )


def _scores(
    run: Run,
    inputs: Inputs,
    evaluations: dict[str, Evaluate],
    unlearned: Stage,
    steps: tuple[int, ...],
) -> tuple[dict[str, Score], Stage | None]:
    """Returns the score stage of each model, and the one along the way where there are steps."""
    log: RetainLog | None = inputs.retain_log
    retain_model: Source | None = log or evaluations.get("retain_model")
    how: dict[str, Any] = {
        "views": {name: view for name, (view, _) in inputs.rowsets.views.items()},
        "metrics": run.benchmark.metrics,
        "version": run.benchmark.version,
    }
    sources: dict[str, Source] = {**evaluations, **({"retain_model": log} if log else {})}
    scores: dict[str, Score] = {
        name: Score(label=f"score {name}", evaluated=source, retain_model=retain_model, **how)
        for name, source in sources.items()
    }
    if not steps:
        return scores, None
    trajectory = ScoreTrajectory(
        label="score along", unlearned=unlearned, retain_model=retain_model, steps=steps, **how
    )
    return scores, trajectory
