"""The plan of a run: which stages it needs, in order, with their keys. Pure, and free of torch."""

from __future__ import annotations

from dataclasses import dataclass

from unlearn_runner.benchmarks.base import Splits
from unlearn_runner.config import Run
from unlearn_runner.data.rows import Rows
from unlearn_runner.errors import ConfigError
from unlearn_runner.methods.base import needs_start_logprobs
from unlearn_runner.models.scratch import Scratch
from unlearn_runner.stages.base import Stage
from unlearn_runner.stages.evaluate import Evaluate
from unlearn_runner.stages.finetune import Finetune
from unlearn_runner.stages.pretrain import Pretrain
from unlearn_runner.stages.score import Score
from unlearn_runner.stages.start import StartNumbers
from unlearn_runner.stages.unlearn import Unlearn


@dataclass(frozen=True)
class Plan:
    """The stages of a run in an order in which each finds what it reads."""

    stages: tuple[Stage, ...]
    scores: dict[str, Stage]
    """Score stage by whose scores they are: "unlearned", "target", "reference"."""


def plan(run: Run) -> Plan:
    """Reads and checks the rows, and returns the stages the run needs.

    Raises:
        DataError: If a split is missing or malformed.
    """
    splits = run.benchmark.splits()
    base = _base(run, splits)
    target = _finetune(run, base, splits.full, splits.pretrain, "target")
    reference = _finetune(run, base, splits.retain, splits.pretrain, "reference")
    numbers = _start_numbers(run, target, splits.forget)
    unlearned = Unlearn(
        label="unlearn",
        start=target,
        start_numbers=numbers,
        template=run.model.template,
        method=run.method,
        rectifier=run.rectifier,
        groups=run.rectifier.groups(run.method.terms()),
        forget=splits.forget,
        retain=splits.retain,
        recipe=run.train,
        seed=run.seed,
    )
    models = {"target": target, "reference": reference, "unlearned": unlearned}
    views = run.benchmark.views()
    evaluations = {
        name: Evaluate(
            label=f"evaluate {name}",
            model=model,
            template=run.model.template,
            views={name: rows for name, (_, rows) in views.items()},
            generation=run.benchmark.generation,
            max_length=run.target.train.max_length,
            batch_size=run.evaluate.batch_size,
        )
        for name, model in models.items()
    }
    scores = {
        name: Score(
            label=f"score {name}",
            evaluated=evaluation,
            reference=evaluations["reference"],
            views={name: view for name, (view, _) in views.items()},
            metrics=run.benchmark.metrics,
            version=run.benchmark.version,
        )
        for name, evaluation in evaluations.items()
    }
    first = [base, target, reference]
    middle = [numbers, unlearned] if numbers is not None else [unlearned]
    stages = (*first, *middle, *evaluations.values(), *scores.values())
    for stage in stages:
        _ = stage.key  # made from the code as it is now, not as it may be hours later
    return Plan(stages, dict(scores))


def _base(run: Run, splits: Splits) -> Stage:
    """Returns the stage whose artifact holds the model to fine-tune, and its tokenizer."""
    if not isinstance(run.model, Scratch):
        raise ConfigError(f"model: {type(run.model).__name__} has no stage that makes its base yet")
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
        batch_size=run.evaluate.batch_size,
    )
