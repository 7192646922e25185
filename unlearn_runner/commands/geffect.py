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
import os
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from unlearn_runner.commands.shell import answered
from unlearn_runner.config.geffect import GEffect
from unlearn_runner.errors import ConfigError, UserError, listed, nearest

if TYPE_CHECKING:
    from unlearn_runner.pipeline.job import PlannedJob
    from unlearn_runner.report.run_folder import RunFolder

HELP = "unlearn-geffect --help"
OWN = [field.name for field in dataclasses.fields(GEffect) if field.name != "method"]
"""Settings that are written bare."""
COMPOSED = ("method", "parallel")
"""Groups of `unlearn` that are taken as they are."""
ALONE = ("cluster", "tracker", "sweep")
"""Groups of a run that have no part in it."""


@dataclass(frozen=True)
class Words:
    """A command line's parts."""

    folders: list[Path]
    own: list[str]
    """Overrides of the measurement's own settings, as `unlearn` has them."""
    composed: list[str]
    """Options and settings of other groups."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures what the command line names; returns the exit code."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if "--help" in words or "-h" in words:
        print((__doc__ or "").strip())
        return 0
    return answered(lambda: _measure(read_words(words)))


def _measure(words: Words) -> int:
    from unlearn_runner.report.discovery import find_runs
    from unlearn_runner.utils.process import prepare_process

    prepare_process()
    found = find_runs(words.folders)
    for problem in found.left_out:
        print(f"Left out: {problem}", file=sys.stderr)
    for run in found.runs:
        refuse_without_models(run)
    jobs = [plan_measurement(run, words) for run in found.runs]
    from unlearn_runner.pipeline.runner import start_job
    from unlearn_runner.report.geffect import print_table

    for job in jobs:
        sys.argv = ["unlearn", *job.composed.arguments]  # what makes this folder, all of it
        if code := start_job(job, brief=True):
            return code
        print_table(job.folder / f"{_stem(job)}.json", job.folder.name)
    return 0


def _stem(job: PlannedJob) -> str:
    from unlearn_runner.pipeline.geffect import stem

    return stem(job)


def read_words(words: Sequence[str]) -> Words:
    """Returns the parts of a command line.

    Raises:
        ConfigError: For a word that is none of them, or no run at all.
    """
    found = Words([], [], [])
    for word in words:
        key = word.lstrip("+").partition("=")[0]
        if os.path.exists(word) or ("=" not in word and not word.startswith("-")):
            found.folders.append(Path(word))
        elif key in OWN:
            found.own.append(f"geffect.{word.lstrip('+')}")
        elif key.partition(".")[0] in COMPOSED and not word.startswith("-"):
            found.composed.append(word)
        else:
            known = [*OWN, *COMPOSED]
            close = nearest(key.lstrip("-"), known)
            raise ConfigError(
                f"{word} is no setting of a measurement; allowed: {listed(known)}",
                f"{close}={word.partition('=')[2] or 'VALUE'}" if close else HELP,
            )
    if not found.folders:
        raise ConfigError("no run is named; allowed: folders of runs and of sweeps", HELP)
    return found


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
    """Returns the run's own job with the measurement in its plan; everything else is stored.

    Raises:
        UserError: For a mistake in the settings, or if the models are not in the store.
    """
    from unlearn_runner.pipeline.job import ComposedJob, plan_job

    outputs, name = _place(run)
    config = configured(run, words)
    store = Path(run.config.get("store") or outputs / "store").expanduser().absolute()
    recorded = shlex.split(str(run.provenance.get("command", "unlearn")))[1:]
    recorded = [w for w in recorded if not w.startswith("geffect.") or "=" not in w]
    own = words.own if _mode(words) else ["geffect.mode=exact", *words.own]
    choices = {str(k): str(v) for k, v in run.provenance.get("choices", {}).items()}
    job = plan_job(ComposedJob(config, outputs, name, store, [*recorded, *own], choices))
    if job.store.manifest(job.plan.unlearn) is None:
        stage = job.plan.unlearn
        raise UserError(
            f"{run.path}: its models are not in {store} as {stage.kind}/{stage.key}: they were "
            "removed, or made by other code",
            shlex.join(["unlearn", *recorded]),
        )
    return job


def _mode(words: Words) -> bool:
    return any(word.startswith("geffect.mode=") for word in words.own)


def _place(run: RunFolder) -> tuple[Path, str]:
    """Returns the outputs folder of a run, and the run's name below it."""
    folder = run.path.resolve()
    for outputs in list(folder.parents)[1:4]:
        name = folder.relative_to(outputs)
        if name.parts[0] in ("runs", "sweeps"):
            return outputs, str(name)
    return folder.parent, folder.name


def configured(run: RunFolder, words: Words) -> dict[str, Any]:
    """Returns a run's configuration with a measurement's settings.

    Raises:
        ConfigError: For a mistake in them.
    """
    from unlearn_runner.config.command_line import parse
    from unlearn_runner.config.compose import compose

    named = {word.lstrip("+").partition("=")[0] for word in words.composed}
    if "method" not in named and any(key.startswith("method.") for key in named):
        fix = ["unlearn-geffect", str(run.path), f"method={run.choice('method')}"]
        raise ConfigError(
            "method.KEY=VALUE is of an objective that is named beside it",
            shlex.join([*fix, *words.composed]),
        )
    # One process's work, whoever made the run; and no second entry on a dashboard.
    config = {name: value for name, value in run.config.items() if name not in ALONE}
    of_benchmark = []
    if benchmark := run.provenance.get("choices", {}).get("benchmark"):
        settings = cast(Mapping[str, Any], config.get("benchmark", {}))
        of_benchmark = [f"benchmark={benchmark}"]  # published settings of methods go by its split
        of_benchmark += [
            f"benchmark.{key}={settings[key]}"
            for key in ("forget", "data_dir")
            if settings.get(key)
        ]
    command = parse([*of_benchmark, *words.composed, "geffect.mode=exact", *words.own])
    composed = compose(command.overrides, command.folders).config
    config |= {"geffect": dict(composed["geffect"]), "tracker": composed["tracker"]}
    if "method" in named:
        config["geffect"]["method"] = composed["method"]
    if any(key.partition(".")[0] == "parallel" for key in named):
        config["parallel"] = composed["parallel"]
    return config


if __name__ == "__main__":
    sys.exit(main())
