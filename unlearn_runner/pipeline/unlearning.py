"""Stages of unlearning, and of what measures it, with all that a method says it needs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, cast

from unlearn_runner.config.root import Run
from unlearn_runner.data.rows import Rows
from unlearn_runner.errors import ConfigError, listed, nearest
from unlearn_runner.evaluation.benchmarks.base import Splits
from unlearn_runner.evaluation.evaluator import Evaluator
from unlearn_runner.evaluation.metrics.base import Metric, directions
from unlearn_runner.evaluation.schema import OF_FINISHED, View
from unlearn_runner.methods.base import Method
from unlearn_runner.methods.influence import SCALES, Influence
from unlearn_runner.methods.one_shot import OneShot
from unlearn_runner.methods.sisa import SISA
from unlearn_runner.pipeline.inputs import Inputs
from unlearn_runner.pipeline.stages.base import Stage
from unlearn_runner.pipeline.stages.calibrate import Calibrate
from unlearn_runner.pipeline.stages.evaluate import PeriodicEval
from unlearn_runner.pipeline.stages.finetune import Finetune
from unlearn_runner.pipeline.stages.fisher import EstimateFisher
from unlearn_runner.pipeline.stages.geffect import MeasureGEffect, risks_of
from unlearn_runner.pipeline.stages.influence import ApplyInfluence, SolveInfluence
from unlearn_runner.pipeline.stages.merge import Merge
from unlearn_runner.pipeline.stages.one_shot import Edit
from unlearn_runner.pipeline.stages.score import Score, Source
from unlearn_runner.pipeline.stages.start_model import (
    AlternativeLogprobs,
    SampleAlternates,
    StartLogprobs,
)
from unlearn_runner.pipeline.stages.stop import StopCheck
from unlearn_runner.pipeline.stages.turns import ScoreTurns
from unlearn_runner.pipeline.stages.unlearn import Unlearn


def edit_stage(run: Run, target: Stage, inputs: Inputs) -> Stage:
    """Returns the stage of a one-shot method, with the fine-tunes or the solution that it reads."""
    splits = inputs.rowsets.splits
    if run.method.solves:
        return _influence_stage(run, cast(Influence, run.method), target, inputs)
    if run.method.retrains:
        return _shard_stage(run, cast(SISA, run.method), target, inputs)
    tuned = tuple(
        Finetune(f"fine-tune {rows.name}", run.model.template, rows, run.train, run.seed, target)
        for rows in run.method.finetunes(splits.forget)
    )
    return Edit("unlearn", target, tuned, cast(OneShot, run.method), run.save_dtype)


def _fine_tune(run: Run, target: Stage) -> Finetune:
    """Returns what made the target.

    Raises:
        ConfigError: If it was made elsewhere.
    """
    if target.fine_tune is None:
        raise ConfigError(
            f"target.path={run.target.path}: this method needs what the target was trained from "
            "and on, and this one was trained elsewhere",
            "target.path=null target.adapter=lora",
        )
    return cast(Finetune, target.fine_tune)


def _shard_stage(run: Run, method: SISA, target: Stage, inputs: Inputs) -> Stage:
    """Returns the fine-tune of the target's base on a shard of the rows as they should be.

    What the target rehearsed beside its rows is rehearsed here, too.

    Raises:
        ConfigError: If the target was made elsewhere, or nothing of the shard is left.
    """
    fit, splits = _fine_tune(run, target), inputs.rowsets.splits
    wished = splits.wished_in_place
    mine = [wished[i] for i in method.places(len(wished), run.target.seed)]
    rows = [row for row in mine if row is not None]
    if not rows:
        raise ConfigError(
            f"method.shard={method.shard}: with method.shards={method.shards} of {len(wished)} "
            "rows, none of its rows is left to train on",
            "method.shards=2",
        )
    name = f"shard {method.shard + 1} of {method.shards}"
    rehearsed = fit.rows.items[len(splits.full) :]
    return replace(fit, label="unlearn", rows=Rows(name, (*rows, *rehearsed)))


def _influence_stage(run: Run, method: Influence, target: Stage, inputs: Inputs) -> Stage:
    """Returns the stage that adds the solution of an influence system.

    Raises:
        ConfigError: If the target was made elsewhere, or the benchmark has no other versions of the
            forget rows, or no validation rows.
    """
    splits, validation = inputs.rowsets.splits, None
    solution = SolveInfluence(
        "influence",
        _fine_tune(run, target),
        replace(method, scale=1.0),
        splits.forget,
        None if method.task == "remove" else _corrected(splits, f"method.task={method.task}"),
        run.seed,
        run.train.micro_batch or run.train.batch_size,
    )
    if method.scale == "auto":
        if "validation" not in inputs.rowsets.views:
            raise ConfigError(
                "method.scale=auto: this benchmark has no validation rows to choose it on",
                "method.scale=1",
            )
        validation = inputs.rowsets.views["validation"][1]
    scales = SCALES if method.scale == "auto" else (method.scale,)
    return ApplyInfluence("unlearn", solution, scales, validation)


def _corrected(splits: Splits, setting: str) -> Rows:
    """Returns what the forget rows should have been.

    Raises:
        ConfigError: If the benchmark does not say.
    """
    if splits.corrected is None:
        raise ConfigError(
            f"{setting}: this benchmark has no other versions of its forget rows",
            "benchmark=pocket_rec",
        )
    return splits.corrected


def unlearn_stage(
    run: Run,
    target: Stage,
    inputs: Inputs,
    periodic_eval: PeriodicEval | None,
    scores: Stage,
) -> Stage:
    """Returns the stage of unlearning, with those of what its method says it needs.

    `scores` are the target's, where a stop rule may find its bound.

    Raises:
        ConfigError: If the method wants corrected rows and the benchmark has none.
    """
    if run.method.on_corrected:
        splits = inputs.rowsets.splits
        splits = replace(splits, forget=_corrected(splits, "method=llmeraser/correct"))
        inputs = replace(inputs, rowsets=replace(inputs.rowsets, splits=splits))
    stop = stop_check(run, inputs, scores)
    if periodic_eval is not None:
        periodic_eval = replace(periodic_eval, stop=stop)
        if stop is not None and run.evaluate.along == "stop":
            evaluator = periodic_eval.evaluator.of_views(stop.looks_at)
            periodic_eval = replace(periodic_eval, evaluator=evaluator, brief=True)
    steps = run.train.num_steps(len(inputs.rowsets.splits.forget))
    return Unlearn(
        label="unlearn",
        **_of_objective(run, run.method, target, inputs, steps),
        rectifier=run.rectifier,
        groups=run.rectifier.groups(run.method.terms()),
        save_dtype=run.save_dtype,
        thresholds=stop and stop.start,
        periodic_eval=periodic_eval,
    )


def stop_check(run: Run, inputs: Inputs, scores: Stage) -> StopCheck | None:
    """Returns what looks at `train.stop`, or none where it is not set.

    Raises:
        ConfigError: If a score that it names cannot exist.
    """
    rules, metrics = run.train.stop_rules, run.benchmark.metrics
    if not rules:
        return None
    every = {name: view for name, (view, _) in inputs.rowsets.views.items()}
    views = {name: view for name, view in every.items() if not view.start_only}
    for rule in rules:
        _check_score(rule.metric, views, metrics)
        if isinstance(rule.bound, str):
            _check_score(rule.bound, every, metrics)
    named = any(isinstance(rule.bound, str) for rule in rules)
    return StopCheck(rules, views, metrics, scores if named else None)


def calibrate_stage(
    run: Run, target: Stage, unlearned: Stage, scores: Score, evaluator: Evaluator
) -> Stage:
    """Returns the stage that mixes the unlearned model with its target.

    Raises:
        ConfigError: If the score that it keeps cannot exist, or less of it is better.
    """
    setting, name = run.calibrate, run.calibrate.metric or ""
    views = {key: view for key, view in scores.views.items() if not view.start_only}
    _check_score(name, views, scores.metrics, "calibrate.metric")
    if directions([name], views, scores.metrics)[name] == "lower":
        raise ConfigError(
            f"calibrate.metric={name}: less of it is better, so there is nothing to keep",
            "calibrate.metric=retain.probability",
        )
    if unlearned.belongs_to is not None:
        raise ConfigError(
            f"calibrate.metric={name} mixes whole models, and the unlearned one is an adapter",
            "calibrate.metric=null",
        )
    view, _, metric = name.rpartition(".")
    views = {view: views[view]} if view else views
    metrics = {metric: scores.metrics[metric]} if view else scores.metrics
    return Calibrate(
        label="calibrate",
        start=target,
        unlearned=unlearned,
        scores=scores,
        evaluator=evaluator.of_views(views).without(OF_FINISHED),
        views=views,
        metrics={n: m for n, m in metrics.items() if not m.needs_retain_model},
        metric=name,
        keep=setting.keep,
        halvings=setting.halvings,
        save_dtype=run.save_dtype,
    )


def _check_score(
    name: str, views: Mapping[str, View], metrics: Mapping[str, Metric], key: str = "train.stop"
) -> None:
    view, _, metric = name.rpartition(".")
    if metric in metrics and not metrics[metric].needs_retain_model and (not view or view in views):
        return
    names = [f"{v}.{m}" for v in views for m in metrics if not metrics[m].needs_retain_model]
    close = nearest(name, names)
    raise ConfigError(
        f"{key}: {name} is no score of this benchmark along the way; scores are named "
        f"VIEW.METRIC of {listed(views)} and {listed(metrics)}",
        f"{close} in place of {name}" if close else "",
    )


def geffect_stage(
    run: Run, target: Stage, inputs: Inputs, unlearned: Stage, steps: tuple[int, ...]
) -> Stage:
    """Returns the stage of the G-effect, of the run's objective or of another."""
    setting, rows = run.geffect, len(inputs.rowsets.splits.forget)
    last = run.train.num_steps(rows)
    drawn = max(last, -(-rows // run.train.batch_size))  # it reads a whole epoch
    return MeasureGEffect(
        label="g-effect",
        **_of_objective(run, setting.method or run.method, target, inputs, drawn),
        trajectory=unlearned,
        steps=steps,
        last=last,
        mode=setting.mode,
        risks=risks_of(setting.risk),
        sizes=(setting.forget_rows, setting.retain_rows),
        boundaries=setting.boundaries,
        per_sample=setting.per_sample,
    )


def _of_objective(
    run: Run, method: Method, target: Stage, inputs: Inputs, drawn: int
) -> dict[str, Any]:
    """Returns what a stage needs to take gradients of a method's terms in so many steps."""
    splits, needed = inputs.rowsets.splits, method.prerequisites()
    of_start: dict[str, Any] = {
        "model": target,
        "template": run.model.template,
        "rows": splits.forget,
        "max_length": run.train.max_length,
        "precision": run.train.precision,
        "storage": run.adapter.storage,
        "batch_size": run.evaluate.batch_size,
    }
    start = alternates = logprobs = None
    if needed.start_logprobs:
        start = StartLogprobs(label="start logprobs", **of_start)
    if needed.alternates is not None and "forget" in needed.alternatives:
        alternates = SampleAlternates(
            "alternates", target, run.model.template, splits.forget, needed.alternates, run.seed
        )
    if needed.alternative_logprobs:
        logprobs = AlternativeLogprobs(
            label="alternative logprobs",
            alternates=alternates,
            refusals=() if alternates is not None else inputs.refusals,
            seed=run.seed,
            drawn_by=(drawn, run.train.batch_size),
            **of_start,
        )
    weights = None
    if (importance := run.adapter.importance) is not None:
        weights = EstimateFisher(
            "fisher",
            target,
            run.model.template,
            splits.forget,
            splits.retain,
            importance,
            run.train.max_length,
            run.train.precision,
            run.train.micro_batch,
        )
    return {
        "start": target,
        "start_logprobs": start,
        "template": run.model.template,
        "method": method,
        "forget": splits.forget,
        "retain": splits.retain,
        "recipe": run.train,
        "seed": run.seed,
        "adapter": run.adapter,
        "refusals": inputs.refusals if needed.refusals else (),
        "alternates": alternates,
        "alternative_logprobs": logprobs,
        "row_weights": weights,
    }


@dataclass(frozen=True)
class Earlier:
    """What several requests, one after another, come to before the last."""

    start: Stage
    """The model that the last one starts from."""
    inputs: Inputs
    """With the last one's rows to train on."""
    models: dict[str, Stage]
    """By request, the model that it left."""
    bases: dict[str, Stage]
    """What such a model belongs to, where it is an adapter."""


def in_turn(run: Run, target: Stage, inputs: Inputs, scores: Stage) -> Earlier:
    """Returns the stages of all requests but the last, each from the model that the last one left.

    Raises:
        ConfigError: If `train.stop` is set, which looks at scores of one request.
    """
    turns, found = inputs.rowsets.turns, Earlier(target, inputs, {}, {})
    if turns and run.train.stop_rules:
        raise ConfigError(
            "train.stop ends one request, and benchmark.in_turn asks several", "train.stop=null"
        )
    for number, turn in enumerate(turns):
        at = replace(inputs, rowsets=replace(inputs.rowsets, splits=turn.splits))
        found = replace(found, inputs=at)
        if number == len(turns) - 1:
            break
        if run.method.one_shot:
            stage = edit_stage(run, found.start, at)
        else:
            stage = unlearn_stage(run, found.start, at, None, scores)
        stage = replace(stage, label=f"unlearn {turn.request}")
        base = stage.belongs_to if run.adapter.whole else found.start
        found.models[turn.request] = stage
        if base is not None:
            found.bases[turn.request] = base
            stage = Merge(f"{turn.request} merged", base, stage)
        found = replace(found, start=stage)
    return found


def turns_stage(run: Run, inputs: Inputs, evaluated: Iterable[Source]) -> ScoreTurns:
    """Returns the scores after each request, of these evaluations."""
    rowsets, metrics = inputs.rowsets, run.benchmark.metrics
    views = {name: view for name, (view, _) in rowsets.views.items() if not view.start_only}
    full, together = rowsets.splits.full, run.benchmark.rows_together
    places = {row.identity: i // together for i, row in enumerate(full)}
    requests, people = {}, {}
    for turn in rowsets.turns:
        texts = {row.identity for row in turn.splits.forget}
        people[turn.request] = tuple(sorted({places[text] for text in texts}))
        requests[turn.request] = {
            name: tuple(i for i, row in enumerate(rowsets.views[name][1]) if row.identity in texts)
            for name, view in views.items()
            if view.goal == "forget"
        }
    own = {name: metric for name, metric in metrics.items() if not metric.needs_retain_model}
    stages = tuple(stage for stage in evaluated if isinstance(stage, Stage))
    return ScoreTurns("score requests", stages, requests, people, views, own, run.benchmark.version)
