"""Inputs of a plan, read and checked before it: rows, given models, logs."""

from __future__ import annotations

from dataclasses import dataclass

from unlearn_runner.config.root import Evaluation, RetainModel, Run, Target
from unlearn_runner.data.rows import Rows
from unlearn_runner.errors import ConfigError, listed, nearest
from unlearn_runner.evaluation.benchmarks.base import Splits, Turn
from unlearn_runner.evaluation.logs.retain_log import RetainLog
from unlearn_runner.evaluation.schema import View
from unlearn_runner.models.folder import is_adapter
from unlearn_runner.models.images import sees
from unlearn_runner.pipeline.stages.base import Stage
from unlearn_runner.pipeline.stages.given import given
from unlearn_runner.pipeline.stages.package import from_package
from unlearn_runner.utils.files import expanded


@dataclass(frozen=True)
class Rowsets:
    """A benchmark's rows, read and checked; jobs of a sweep share them."""

    splits: Splits
    views: dict[str, tuple[View, Rows]]
    turns: tuple[Turn, ...] = ()
    """The requests that follow one another; none where there is one."""


@dataclass(frozen=True)
class Inputs:
    """Everything outside the configuration that a plan depends on."""

    rowsets: Rowsets
    refusals: tuple[str, ...] = ()
    """What a method that trains on refusals answers with; empty where none does."""
    base: Stage | None = None
    """The model that is fine-tuned, where one is given and something is fine-tuned."""
    target: Stage | None = None
    retain_model: Stage | None = None
    retain_log: RetainLog | None = None
    """An evaluation log of a retain model, in the model's place."""
    checkpoint: Stage | None = None
    """The model that is evaluated alone; then nothing is trained."""
    classifier: Stage | None = None
    """Asked about generated texts."""
    retrains: bool = False
    """Whether a retain model is fine-tuned here."""
    knows_from_base: bool = False
    """Whether one is wanted and cannot be made, as the target is the base itself, which knows all
    that is to be forgotten before it is fine-tuned."""


def read_inputs(run: Run, rowsets: Rowsets | None = None) -> Inputs:
    """Reads what a run is given, and checks its rows unless they have been read before.

    Raises:
        DataError: If a split, a model folder or a log is missing or malformed.
        ConfigError: If a setting needed for it is missing.
    """
    if rowsets is None:
        of = run.benchmark
        rowsets = Rowsets(of.splits(), of.evaluation_rows(), of.turns())
    _check_named_views(run, rowsets)
    log = _retain_log(run, rowsets.views)
    retain_model = _given(run, "retain_model", "retain_model", run.retain_model)
    classifier = None
    if (place := run.evaluate.classifier) is not None:
        classifier = given("classifier", "evaluate.classifier", place, None)
    if (checkpoint := _given(run, "model", "evaluate", run.evaluate)) is not None:
        _check_template(run, "evaluate.path", checkpoint)
        return Inputs(rowsets, (), None, None, retain_model, log, checkpoint, classifier)
    if not len(rowsets.splits.forget):
        raise ConfigError(
            "benchmark: it has no rows to train on, so only a checkpoint can be evaluated on it",
            "evaluate.path=FOLDER, or benchmark=pocket_choices, which is trained and asked",
        )
    target = _given(run, "target", "target", run.target)
    retrains = retain_model is None and needs_retain_model(run)
    base = _base(run) if target is None or retrains else None
    itself = retrains and target is not None and base is not None and base.key == target.key
    if itself:
        base, retrains = None, False
    made = run.model.pretraining
    reads = made is not None and not made.shape.sees
    if run.benchmark.sees and reads and (target is None or retrains):
        raise ConfigError(
            "benchmark: its questions are about pictures, and the model reads text alone",
            "model=tiny_llava, or model=llava15_7b",
        )
    _check_template(run, "target.path", target)
    _check_template(run, "model.path", base)
    methods = (run.method, run.geffect.method)
    refuses = any(method.prerequisites().refusals for method in methods if method is not None)
    refusals = run.benchmark.refusals() if refuses else ()
    return Inputs(
        rowsets,
        refusals,
        base,
        target,
        retain_model,
        log,
        classifier=classifier,
        retrains=retrains,
        knows_from_base=itself,
    )


def needs_retain_model(run: Run) -> bool:
    """Returns whether a score or an attack compares with it, and no log stands for it."""
    wanted = any(metric.needs_retain_model for metric in run.benchmark.metrics.values())
    return (wanted or run.attack.acts) and run.retain_model.log is None


def _check_named_views(run: Run, rowsets: Rowsets) -> None:
    """Refuses a metric that names a view which the benchmark has not."""
    for name, metric in run.benchmark.metrics.items():
        for setting, view in metric.named_views.items():
            if view not in rowsets.views:
                key, close = f"benchmark.metric.{name}.{setting}", nearest(view, rowsets.views)
                raise ConfigError(
                    f"{key}={view} is no view of this benchmark; it has {listed(rowsets.views)}",
                    f"{key}={close or 'null'}",
                )


def _given(
    run: Run, label: str, key: str, place: Target | RetainModel | Evaluation
) -> Stage | None:
    if place.path is None:
        return None
    return given(label, f"{key}.path", place.path, place.revision, run.model.given)


def _check_template(run: Run, key: str, stage: Stage | None) -> None:
    """Refuses a given model that lacks what its prompts, or the benchmark's pictures, need."""
    if stage is None or (folder := stage.outside()) is None:
        return
    run.model.template.check(folder, key)
    if run.benchmark.sees and not (is_adapter(folder) or sees(folder)):
        raise ConfigError(
            f"{key}: the questions of this benchmark are about pictures, and the model there has "
            "no processor_config.json of LLaVA's kind",
            f"{key}=FOLDER of a LLaVA-1.5 model, or model=tiny_llava {key}=null",
        )


def _base(run: Run) -> Stage | None:
    where = run.model.given
    if where is None:
        return None
    if where.packaged is not None:
        return from_package("base", where.packaged)
    if not where.path:
        raise ConfigError(
            "model.path must be set: a local folder or a hub id",
            "model.path=FOLDER or model.path=owner/name",
        )
    return given("base", "model.path", where.path, where.revision)


def _retain_log(run: Run, views: dict[str, tuple[View, Rows]]) -> RetainLog | None:
    """Returns the retain model's log, read once so that a wrong one is refused now."""
    if run.retain_model.log is None:
        return None
    forget = next((name for name, (view, _) in views.items() if view.goal == "forget"), None)
    if forget is None:
        raise ConfigError(
            "retain_model.log: this benchmark has no forget view to compare with a log",
            "retain_model.log=null",
        )
    from unlearn_runner.evaluation.logs.read import digest

    path = expanded("retain_model.log", run.retain_model.log).absolute()
    log = RetainLog(path, digest(path), views[forget][1], forget)
    log.matched()
    return log
