"""G-effect: at every model that a run kept, what an objective's gradient does to two risks.

    unlearn-geffect outputs/runs/NAME                     the run's own objective, NLL
    unlearn-geffect outputs/sweeps/NAME method=npo        another objective, at each run's models
    unlearn-geffect outputs/runs/NAME risk=kl mode=ema    KL to the start model; the published code

RUN is the folder of a run, or of a sweep, made with keep=checkpoints and evaluate.every=N. e_u is
the inner product of the objective's gradient with that of the forget rows' risk: negative where a
step raises it. e_r is that of the retain rows: negative is damage. Sums are of -lr e over steps.
Written into the run folder: geffect.json (steps, layer groups) and geffect.parquet (tensors).

settings
  mode=exact|ema             all rows at once (exact), or smoothed batches of four
  risk=nll|kl                method=OPTION method.KEY=VALUE
  forget_rows=N retain_rows=N   of exact: fixed samples (all, and as many as forget rows)
  boundaries=[A,B]           first block of the layer groups middle and deep (thirds)
  per_sample=true            also the PG-effect of each forget row: geffect.samples.parquet
  parallel=ddp parallel.ranks=2   and other settings of parallel; as in the run otherwise
"""

from __future__ import annotations

import dataclasses
import shlex
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from unlearn_runner.commands.on_runs import Words, measure, plan_again, read_words, recomposed
from unlearn_runner.commands.shell import answered
from unlearn_runner.config.geffect import GEffect
from unlearn_runner.errors import ConfigError, UserError

if TYPE_CHECKING:
    from unlearn_runner.pipeline.job import PlannedJob
    from unlearn_runner.report.run_folder import RunFolder

HELP = "unlearn-geffect --help"
OWN = [field.name for field in dataclasses.fields(GEffect) if field.name != "method"]
"""Settings that are written bare."""
COMPOSED = ("method", "parallel")
"""Groups of `unlearn` that are taken as they are."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures what the command line names; returns the exit code."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if "--help" in words or "-h" in words:
        print((__doc__ or "").strip())
        return 0
    return answered(lambda: _measure(read_words(words, HELP, COMPOSED, OWN, "geffect")))


def _measure(words: Words) -> int:
    def show(job: PlannedJob) -> None:
        from unlearn_runner.pipeline.geffect import stem
        from unlearn_runner.report.geffect import print_table

        print_table(job.folder / f"{stem(job)}.json", job.folder.name)

    def plans(run: RunFolder) -> list[PlannedJob]:
        return [plan_measurement(run, words)]

    return measure(words.folders, refuse_without_models, plans, show)


def refuse_without_models(run: RunFolder) -> None:
    """Refuses a run that has kept no models on its way.

    Raises:
        UserError: Saying why, with the command that makes a run which keeps them.
    """
    if run.config.get("keep") == "checkpoints" and run.status == "completed":
        return
    recorded = str(run.provenance.get("command", ""))
    if run.status != "completed":
        again = "" if run.status == "diverged" else recorded
        raise UserError(f"{run.path}: the run is {run.status}, and has not kept all models", again)
    if (run.config.get("evaluate") or {}).get("path") is not None:
        raise UserError(f"{run.path} evaluates a checkpoint; allowed: runs that unlearn")
    command = shlex.split(recorded or "unlearn")
    words = [w for w in command if w.partition("=")[0] not in ("keep", "name")]
    evaluation = run.config.get("evaluate")
    if not isinstance(evaluation, Mapping) or evaluation.get("every") is None:
        words = [w for w in words if w.partition("=")[0] != "evaluate.every"]
        words.append("evaluate.every=1epoch")
    raise UserError(
        f"{run.path} has kept no models on its way; allowed: runs with keep=checkpoints",
        shlex.join([*words, "keep=checkpoints", f"name={run.path.name[:80]}-kept"]),
    )


def plan_measurement(run: RunFolder, words: Words) -> PlannedJob:
    """Returns the run's own job with the measurement in its plan.

    Raises:
        UserError: For a mistake in the settings, or if the models are not in the store.
    """
    own = words.own if _mode(words) else ["geffect.mode=exact", *words.own]
    return plan_again(run, configured(run, words), "geffect", own)


def _mode(words: Words) -> bool:
    return any(word.startswith("geffect.mode=") for word in words.own)


def configured(run: RunFolder, words: Words) -> dict[str, Any]:
    """Returns a run's configuration with a measurement's settings.

    Raises:
        ConfigError: For a mistake in them.
    """
    named = {word.lstrip("+").partition("=")[0] for word in words.composed}
    if "method" not in named and words.names("method"):
        fix = ["unlearn-geffect", str(run.path), f"method={run.choice('method')}"]
        raise ConfigError(
            "method.KEY=VALUE is of an objective that is named beside it",
            shlex.join([*fix, *words.composed]),
        )
    groups = ["geffect", *(group for group in COMPOSED if words.names(group))]
    config = recomposed(run, [*words.composed, "geffect.mode=exact", *words.own], groups)
    config["geffect"] = dict(config["geffect"])
    if "method" in named:
        config["geffect"]["method"], config["method"] = config["method"], run.config["method"]
    return config


if __name__ == "__main__":
    sys.exit(main())
