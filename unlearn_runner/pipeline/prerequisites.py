"""Stages of what a method needs before unlearning can begin."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

from unlearn_runner.config.root import Run
from unlearn_runner.data.rows import Rows
from unlearn_runner.methods.one_shot import OneShot
from unlearn_runner.pipeline.stages.alternatives import AlternativeLogprobs, SampleAlternates
from unlearn_runner.pipeline.stages.base import Stage
from unlearn_runner.pipeline.stages.finetune import Finetune
from unlearn_runner.pipeline.stages.one_shot import Edit
from unlearn_runner.pipeline.stages.start_logprobs import StartLogprobs


@dataclass(frozen=True)
class PrerequisiteStages:
    """What unlearning reads beside its start model; empty where the method needs nothing."""

    refusals: tuple[str, ...] = ()
    start_logprobs: Stage | None = None
    alternates: Stage | None = None
    alternative_logprobs: Stage | None = None


def prerequisite_stages(
    run: Run, target: Stage, forget: Rows, refusals: tuple[str, ...]
) -> PrerequisiteStages:
    """Returns the stages of what the method says it needs.

    Args:
        run: What is wanted.
        target: What unlearning starts from.
        forget: The forget rows.
        refusals: The benchmark's, where the method needs any.
    """
    needed = run.method.prerequisites()
    how: dict[str, Any] = {
        "model": target,
        "template": run.model.template,
        "rows": forget,
        "max_length": run.train.max_length,
        "precision": run.train.precision,
        "storage": run.adapter.storage,
        "batch_size": run.evaluate.batch_size,
    }
    start = alternates = logprobs = None
    if needed.start_logprobs:
        start = StartLogprobs(label="start logprobs", **how)
    if needed.alternates is not None and "forget" in needed.alternatives:
        alternates = SampleAlternates(
            "alternates", target, run.model.template, forget, needed.alternates, run.seed
        )
    if needed.alternative_logprobs:
        logprobs = AlternativeLogprobs(
            label="alternative logprobs",
            alternates=alternates,
            refusals=() if alternates is not None else refusals,
            seed=run.seed,
            drawn_by=(run.train.num_steps(len(forget)), run.train.batch_size),
            **how,
        )
    return PrerequisiteStages(refusals, start, alternates, logprobs)


def one_shot_stage(run: Run, target: Stage, forget: Rows) -> Stage:
    """Returns the stage of a one-shot method, with the fine-tunes that it reads."""
    tuned = [
        Finetune(
            label=f"fine-tune {rows.name}",
            base=target,
            template=run.model.template,
            rows=rows,
            recipe=run.train,
            seed=run.seed,
        )
        for rows in run.method.finetunes(forget)
    ]
    return Edit("unlearn", target, tuple(tuned), cast(OneShot, run.method), run.save_dtype)
