"""The runner from Python: compose, plan and run a command's overrides, and read what runs left.

Everything here is what the commands do, with the same words, checks and artifacts; mistakes raise
`UserError`. Tables are pandas'; `docs/api.md` shows all of it.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from unlearn_runner.config.command_line import CommandLine, parse
from unlearn_runner.config.compose import compose as compose_config
from unlearn_runner.config.root import Run, refuse_selection, validate
from unlearn_runner.errors import ConfigError, DataError, UserError, listed
from unlearn_runner.evaluation.schema import Probe
from unlearn_runner.pipeline.job import PlannedJob, plan_config
from unlearn_runner.report.discovery import find_runs
from unlearn_runner.report.run_folder import RunFolder, read

if TYPE_CHECKING:
    from pandas import DataFrame


def compose(*overrides: str, config_dir: str | Path | None = None) -> Run:
    """Returns the typed, checked run that a command's overrides describe.

    Args:
        overrides: As on the command line: `"method=npo", "train.lr=1e-5"`.
        config_dir: A folder of further options.

    Raises:
        ConfigError: For a mistake in one of them.
    """
    command = _parsed(overrides, config_dir)
    return validate(compose_config(command.overrides, command.folders).config)


def plan(*overrides: str, config_dir: str | Path | None = None) -> PlannedJob:
    """Returns the planned job of a command's overrides: its stages, keys and folders.

    Args:
        overrides: As on the command line.
        config_dir: A folder of further options.

    Raises:
        UserError: For a mistake in one of them, or in the data; nothing is written.
    """
    command = _parsed(overrides, config_dir)
    composed = compose_config(command.overrides, command.folders)
    job = plan_config(composed.config, composed.name_run, composed.choices)
    refuse_selection(job.run)
    return job


def run(*overrides: str, config_dir: str | Path | None = None) -> RunFolder:
    """Runs a job as the command would, in this process or in ranks of its own.

    What is in the store is taken from there.

    Args:
        overrides: As on the command line.
        config_dir: A folder of further options.

    Returns:
        The run folder, read: its `status`, `scores`, `stages` and `path`.

    Raises:
        UserError: For a mistake in one of them, or if a rank failed.
        Interrupted: If a signal ended it.
    """
    from unlearn_runner.pipeline.runner import start_job
    from unlearn_runner.utils.process import prepare_process

    prepare_process()
    before = sys.argv
    # The command line is the one to repeat, in what a run writes down and says.
    sys.argv = ["unlearn", *_parsed(overrides, config_dir).words]
    try:
        job = plan(*overrides, config_dir=config_dir)
        if job.run.cluster.elsewhere:
            raise ConfigError(
                "cluster: a run from Python happens on this machine; allowed: cluster=none"
            )
        if code := start_job(job, brief=True):
            raise UserError(f"{job.folder.name} ended with exit code {code}; see {job.folder}")
    finally:
        sys.argv = before
    return read(job.folder)


def load_runs(folder: str | Path) -> DataFrame:
    """Returns the runs in and below a folder, one a row.

    Columns are `name`, `status`, `benchmark`, `method`, `rectifier`, `adapter`, `path`, the
    settings in which the runs differ by their dotted keys, and all scores.

    Args:
        folder: A run's, a sweep's or an outputs folder.

    Raises:
        UserError: If there are no runs.
    """
    from pandas import DataFrame

    runs = find_runs([Path(folder).expanduser()]).runs
    keys = dict.fromkeys(key for found in runs for key in found.settings)
    differ = [k for k in keys if len({repr(found.settings.get(k)) for found in runs}) > 1]
    groups = ("benchmark", "method", "rectifier", "adapter")
    return DataFrame(
        {
            "name": found.name,
            "status": found.status,
            **{group: found.provenance.get("choices", {}).get(group) for group in groups},
            "path": str(found.path),
            **{key: found.settings.get(key) for key in differ if key not in groups},
            **found.results.get("scores", {}),
        }
        for found in runs
    )


def evidence(
    run: RunFolder | str | Path,
    view: str,
    *,
    model: Literal["unlearned", "target", "calibrated", "retain_model", "model"] = "unlearned",
    probe: Probe = "logprobs",
) -> DataFrame:
    """Returns what a model was seen to do on a view: one row per scored answer, choice or text.

    Args:
        run: A run folder.
        view: Of the benchmark: `forget`, `retain`, ...
        model: Whose evidence; "model" is a checkpoint's that was evaluated with no run around it.
        probe: Log-probabilities of answers, by token (nats), generated texts, or scored choices.

    Raises:
        DataError: If the run has no such evidence, or its store cannot be reached.
    """
    from pandas import read_parquet

    found = run if isinstance(run, RunFolder) else read(Path(run).expanduser())
    stage = found.stage(f"evaluate {model}")
    folder = found.artifact(stage) if stage is not None else None
    if folder is None:
        raise DataError(f"{found.path}: no evidence of its {model} model can be reached")
    there = sorted(path.name.split(".")[0] for path in folder.glob(f"*.{probe}.parquet"))
    if view not in there:
        raise DataError(f"{view!r} is not a view of {found.name}; known here: {listed(there)}")
    return read_parquet(folder / f"{view}.{probe}.parquet")


def _parsed(overrides: tuple[str, ...], config_dir: str | Path | None) -> CommandLine:
    command = parse([*(("--config-dir", str(config_dir)) if config_dir else ()), *overrides])
    if command.is_sweep or command.for_hydra:
        raise ConfigError(
            "a sweep, and what only Hydra's application does, is a matter of the command line; "
            "allowed: overrides of one run"
        )
    return command
