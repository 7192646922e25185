"""Plan: which stages a run needs, in order, with their keys. Pure, and free of torch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from types import MappingProxyType
from typing import Any

from unlearn_runner.config.root import Run
from unlearn_runner.data.rows import Rows
from unlearn_runner.errors import ConfigError
from unlearn_runner.evaluation.evaluator import Evaluator
from unlearn_runner.evaluation.metrics.parts import units
from unlearn_runner.evaluation.schema import OF_FINISHED, Probe, View
from unlearn_runner.pipeline.attacking import verdict_stage
from unlearn_runner.pipeline.inputs import Inputs, Rowsets
from unlearn_runner.pipeline.stages.base import Stage
from unlearn_runner.pipeline.stages.evaluate import Evaluate, PeriodicEval
from unlearn_runner.pipeline.stages.finetune import Finetune, FinetuneAdapter, Pretrain
from unlearn_runner.pipeline.stages.merge import Merge
from unlearn_runner.pipeline.stages.score import Score, ScoreTrajectory, Source
from unlearn_runner.pipeline.unlearning import (
    calibrate_stage,
    edit_stage,
    geffect_stage,
    in_turn,
    turns_stage,
    unlearn_stage,
)

BESIDE: dict[Probe, str] = {
    "patched": "writes a model's states into the target",
    "clean": "asks the model that evaluate.classifier names",
}
"""What probes need another model for."""
DEFAULT_SUITE = ", default suite"
"""Of the label of an evaluation that one with further views takes over."""


@dataclass(frozen=True)
class Plan:
    """The stages of a run in an order in which each finds what it reads."""

    stages: tuple[Stage, ...]
    unlearn: Stage
    """Leaves the model that the run is about: the unlearned one, or a checkpoint to evaluate."""
    scores: dict[str, Score]
    """Score stage by whose scores they are: "target", "unlearned", "calibrated", "retain_model";
    "model" where a checkpoint is evaluated."""
    wanted: tuple[Stage, ...]
    """What the run is for; the other stages are computed only where one of these needs them."""
    inputs: Inputs
    trajectory: Stage | None = None
    """The stage of the scores along the way."""
    geffect: Stage | None = None
    """Measures the G-effect along the way."""
    turns: Stage | None = None
    """Scores the models after each of several requests."""
    attack: Stage | None = None
    """Judges the attack."""


def plan(run: Run, inputs: Inputs) -> Plan:
    """Returns the stages that a run with these inputs needs.

    Raises:
        ConfigError: If the model's base can neither be found nor made, or a method's settings do
            not go with the rows.
    """
    splits, retain_model = inputs.rowsets.splits, inputs.retain_model
    evaluator = _evaluator(run, inputs.rowsets)
    if inputs.checkpoint is not None:
        models = {"model": inputs.checkpoint, "retain_model": retain_model}
        return _scored(run, inputs, inputs.checkpoint, models, evaluator)
    base = cache(lambda: _base(run, inputs))  # not looked at where nothing is fine-tuned
    target = inputs.target or _finetune_base(run, base(), splits.full, inputs, "target")
    if inputs.retrains:
        retain_model = _finetune_base(run, base(), splits.wished, inputs, "retain_model")
    before = {"target": target, "retain_model": retain_model}
    sources = _sources(run, inputs, before, evaluator, target)
    scores = Score("score target", sources["target"], **_scoring(run, inputs, sources))
    earlier = in_turn(run, target, inputs, scores)
    start, now = earlier.start, earlier.inputs
    forget = now.rowsets.splits.forget
    # A one-shot method has no steps to be scored along.
    steps = () if run.method.one_shot else run.evaluate.steps(run.train, len(forget))
    if run.method.one_shot:
        unlearned = edit_stage(run, start, now)
    else:
        along = evaluator.of_views(_views(inputs, "unlearned")).without(OF_FINISHED)
        periodic = PeriodicEval(steps, along, run.keep == "checkpoints") if steps else None
        unlearned = unlearn_stage(run, start, now, periodic, scores)
    models: dict[str, Stage | None] = {**before, "unlearned": unlearned}
    # An adapter that is kept is of no use without what it belongs to.
    bases = {} if run.adapter.whole else {"unlearned": start}
    if (base_of := unlearned.belongs_to) is not None:
        bases = {"unlearned": base_of}
    kept = (unlearned, *bases.values()) if run.keep != "scores" else ()
    mixtures: dict[str, Stage] = {}
    if run.calibrate.metric is not None:
        mixed = calibrate_stage(run, target, unlearned, scores, evaluator)
        mixtures["calibrated"] = mixed
        kept = (*kept, mixed) if kept else ()
    both = models | mixtures
    found = _scored(run, inputs, unlearned, both, evaluator, bases, kept, steps)
    further: dict[str, Stage] = {}
    if run.geffect.mode != "none":
        further["geffect"] = geffect_stage(run, start, now, unlearned, steps)
    if earlier.models:
        names = {f"after {name}": model for name, model in earlier.models.items()}
        of = {f"after {name}": base for name, base in earlier.bases.items()}
        made = {**names, "unlearned": unlearned}
        after = _sources(run, inputs, made, evaluator, target, {**of, **bases})
        evaluated = [stage for name in (*names, "unlearned") if (stage := after[name])]
        further["turns"] = turns_stage(run, inputs, evaluated)
    if run.attack.acts:
        sources = _sources(run, inputs, models, evaluator, target, bases)
        evaluated = {name: of for name, of in sources.items() if isinstance(of, Evaluate)}
        scoring = _scoring(run, inputs, sources, "unlearned")
        further["attack"] = verdict_stage(run, inputs, evaluator, evaluated, bases, scoring)
    wanted = (*found.wanted, *further.values())
    return replace(found, stages=_ordered(wanted), wanted=wanted, **further)


def _scored(
    run: Run,
    inputs: Inputs,
    unlearned: Stage,
    models: Mapping[str, Stage | None],
    evaluator: Evaluator,
    bases: Mapping[str, Stage] = MappingProxyType({}),
    kept: tuple[Stage, ...] = (),
    steps: tuple[int, ...] = (),
) -> Plan:
    """Returns the plan that evaluates and scores models, and keeps some of them.

    Args:
        run: The run.
        inputs: What it is given.
        unlearned: The model that the run is about.
        models: Whose scores are wanted, by what the run calls them.
        evaluator: What is measured.
        bases: What an adapter among the models belongs to.
        kept: What the run leaves behind beside scores.
        steps: After which `unlearned` was evaluated on its way.
    """
    sources = _sources(run, inputs, models, evaluator, models.get("target"), bases)

    def how(name: str) -> dict[str, Any]:
        return _scoring(run, inputs, sources, name)

    scores = {name: Score(f"score {name}", of, **how(name)) for name, of in sources.items()}
    trajectory = None
    if steps:
        trajectory = ScoreTrajectory("score along", unlearned, steps=steps, **how("unlearned"))
    wanted = (*scores.values(), *((trajectory,) if trajectory is not None else ()), *kept)
    return Plan(_ordered(wanted), unlearned, scores, wanted, inputs, trajectory)


def _views(inputs: Inputs, name: str) -> dict[str, View]:
    """Returns the views that a model is scored on, by what the run calls it."""
    start = name in ("target", "model")
    views = {view_name: view for view_name, (view, _) in inputs.rowsets.views.items()}
    return {key: view for key, view in views.items() if start or not view.start_only}


def _sources(
    run: Run,
    inputs: Inputs,
    models: Mapping[str, Stage | None],
    evaluator: Evaluator,
    target: Stage | None,
    bases: Mapping[str, Stage] = MappingProxyType({}),
) -> dict[str, Source]:
    """Returns the stages that evaluate models, or a log in the retain model's place.

    Views that a larger suite adds are of a stage that takes over what the smaller one has left.
    """
    sources, classifier = dict[str, Source](), inputs.classifier

    def beside(stage: Evaluate) -> Evaluate:
        probes = stage.evaluator.probes
        patched, asked = _wants(probes, "patched", target), _wants(probes, "clean", classifier)
        return replace(
            stage, target=target if patched else None, classifier=classifier if asked else None
        )

    for name, model in models.items():
        if model is None:
            continue
        label, base, views = f"evaluate {name}", bases.get(name), _views(inputs, name)
        further = evaluator.of_views(run.benchmark.further_views & views.keys())
        first = evaluator.of_views(views.keys() - run.benchmark.further_views)
        if further.views and first.views:
            before = beside(Evaluate(f"{label}{DEFAULT_SUITE}", model, first, base))
            sources[name] = beside(Evaluate(label, model, further, base, before))
        else:
            sources[name] = beside(Evaluate(label, model, evaluator.of_views(views), base))
    if inputs.retain_log is not None:
        sources["retain_model"] = inputs.retain_log
    return sources


def _wants(probes: Mapping[str, tuple[Probe, ...]], name: Probe, model: Stage | None) -> bool:
    """Returns whether some view has a probe that needs another model.

    Raises:
        ConfigError: If one has, and there is no such model.
    """
    view = next((view for view, found in probes.items() if name in found), None)
    if view is not None and model is None:
        kept = ",".join(probe for probe in probes[view] if probe != name)
        raise ConfigError(
            f"benchmark.view.{view}.probes: {name} {BESIDE[name]}, and there is none here",
            f"benchmark.view.{view}.probes=[{kept}]",
        )
    return view is not None


def _scoring(
    run: Run, inputs: Inputs, sources: Mapping[str, Source], name: str = "target"
) -> dict[str, Any]:
    """Returns what a model's evidence is scored with."""
    views = _views(inputs, name)
    rows = {view: inputs.rowsets.views[view] for view in views}
    return {
        "retain_model": sources.get("retain_model"),
        "views": views,
        "metrics": run.benchmark.metrics,
        "version": run.benchmark.version,
        "units": units(inputs.rowsets.splits.people, rows, run.benchmark.rows_together),
    }


def _ordered(wanted: Iterable[Stage]) -> tuple[Stage, ...]:
    """Returns every stage that is wanted or read by one, each after what it reads.

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

    @cache
    def order(key: str) -> int:
        # Where a stop rule reads scores, unlearning comes behind them.
        stage = by_key[key]
        return max(stage.order, *(order(read.key) for read in stage.inputs), 0)

    return tuple(sorted(by_key.values(), key=lambda stage: order(stage.key)))


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


def _finetune_base(run: Run, base: Stage, rows: Rows, inputs: Inputs, label: str) -> Stage:
    pretrain, target = inputs.rowsets.splits.pretrain, run.target
    if (made := run.model.pretraining) is not None and made.rehearse:
        rows = Rows(f"{rows.name}+{pretrain.name}", (*rows.items, *pretrain.items))
    how = (run.model.template, rows, target.train, target.seed, base)
    if (adapter := target.adapter) is None or not adapter.adapts:
        return Finetune(label, *how)
    return Merge(label, base, FinetuneAdapter(f"{label} adapter", *how, adapter))


def _evaluator(run: Run, rowsets: Rowsets) -> Evaluator:
    return Evaluator(
        template=run.model.template,
        views={name: rows for name, (_, rows) in rowsets.views.items()},
        generation=run.benchmark.generation,
        generations={
            n: v.generate for n, (v, _) in rowsets.views.items() if v.generate is not None
        },
        samplings={n: v.sample for n, (v, _) in rowsets.views.items() if v.sample is not None},
        max_length=run.target.train.max_length,
        precision=run.evaluate.precision,
        batch_size=run.evaluate.batch_size,
        probes={name: view.probes for name, (view, _) in rowsets.views.items()},
    )
