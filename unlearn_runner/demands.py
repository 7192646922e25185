"""What a method demands of the plan beyond rows and start numbers: other answers, fine-tunes."""

from __future__ import annotations

from dataclasses import dataclass

from unlearn_runner.config import Run
from unlearn_runner.data.rows import Rows
from unlearn_runner.methods.altpo import Alternates
from unlearn_runner.methods.base import needs_others, needs_start_of_others
from unlearn_runner.methods.oneshot import OneShot
from unlearn_runner.stages.base import Stage
from unlearn_runner.stages.edit import Edit
from unlearn_runner.stages.finetune import Finetune
from unlearn_runner.stages.others import OtherNumbers, Sample


@dataclass(frozen=True)
class Provided:
    """Other answers, and the stages that make or score them; all empty where nothing asks."""

    refusals: tuple[str, ...] = ()
    alternates: Stage | None = None
    numbers: Stage | None = None


def provide(run: Run, target: Stage, forget: Rows) -> Provided:
    """Returns what the method's terms ask for.

    Raises:
        DataError: If a file of refusals cannot be read.
    """
    terms = run.method.terms()
    ours, theirs = needs_others(terms, "forget"), needs_others(terms, "retain")
    if not (ours or theirs):
        return Provided()
    setting = getattr(run.method, "alternates", None)
    alternates = None
    if ours and isinstance(setting, Alternates):
        alternates = Sample("alternates", target, run.model.template, forget, setting, run.seed)
    refusals = run.benchmark.refusals() if theirs or alternates is None else ()
    numbers = None
    if needs_start_of_others(terms):
        numbers = OtherNumbers(
            label="other start numbers",
            model=target,
            alternates=alternates,
            refusals=() if alternates is not None else refusals,
            template=run.model.template,
            rows=forget,
            seed=run.seed,
            drawn_by=(run.train.num_steps(len(forget)), run.train.batch_size),
            max_length=run.train.max_length,
            precision=run.train.precision,
            batch_size=run.evaluate.batch_size,
            storage=run.adapter.storage,
        )
    return Provided(refusals, alternates, numbers)


def edit(run: Run, method: OneShot, target: Stage, forget: Rows) -> Edit:
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
        for rows in method.parts(forget)
    ]
    return Edit("unlearn", target, tuple(tuned), method, run.save_dtype)
