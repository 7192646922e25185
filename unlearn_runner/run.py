"""The command `unlearn`: parse, compose, branch, report mistakes.

    python -m unlearn_runner.run method=npo rectifier=gru rectifier.gamma=0.9
    unlearn benchmark=tofu benchmark.data_dir=FOLDER plan_only=true

Hydra composes the configuration in this one plain process; everything that can be wrong with a
command is said before torch is loaded and before anything is written.
"""

from __future__ import annotations

import os
import signal
import sys
import time
import traceback
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, cast

from unlearn_runner.config.groups import CONF, print_help
from unlearn_runner.errors import SIGNALLED, USAGE_ERROR, UserError
from unlearn_runner.utils.redact import redacted

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from unlearn_runner.config.root import Run


def main() -> int:
    """Runs the command line in `sys.argv`; returns the exit code."""
    arguments = sys.argv[1:]
    if "--help" in arguments or "-h" in arguments:
        print_help()
        return 0
    sys.argv[0] = "unlearn"  # what usage messages call the program
    try:
        return _run(arguments)
    except UserError as error:
        _say(error)
        return USAGE_ERROR
    except KeyboardInterrupt as error:
        from unlearn_runner.utils.process import command

        _say(f"interrupted; to continue: {command()}")
        return SIGNALLED + getattr(error, "number", signal.SIGINT)
    except Exception as error:
        from unlearn_runner.config.messages import explain

        explained = explain(error, arguments, CONF)
        if explained is not None:
            _say(explained)
            return USAGE_ERROR
        print(redacted(traceback.format_exc()), file=sys.stderr)
        return 1


def console() -> None:
    """Runs the `unlearn` command and exits with its code."""
    sys.exit(main())


def _say(words: object) -> None:
    """Prints an error once, however many ranks would."""
    if os.environ.get("RANK", "0") == "0":
        print(redacted(str(words)), file=sys.stderr, flush=True)
    elif "TORCHELASTIC_RUN_ID" in os.environ:
        time.sleep(3)  # torchrun ends all ranks with the first that leaves: rank 0 is to speak


def _run(arguments: list[str]) -> int:
    """Checks a command line, and runs one job or a sweep."""
    if "RANK" in os.environ:  # started by torchrun or accelerate
        from unlearn_runner.config.external import adopt

        arguments = adopt(arguments)
    from unlearn_runner.config.messages import sweeps, validate_arguments
    from unlearn_runner.utils.process import prepare_process

    sys.argv[1:] = validate_arguments(arguments, CONF)
    prepare_process()
    if sweeps(sys.argv[1:]):
        from unlearn_runner.sweeps import sweep

        return sweep.run(sys.argv[1:])
    return _compose_and_run()


def _compose_and_run() -> int:
    import hydra

    from unlearn_runner.config.messages import explain

    mistakes: list[UserError] = []
    codes = [0]

    @hydra.main(version_base="1.3", config_path=str(CONF), config_name="config")
    def job(config: Any) -> None:
        # Kept from Hydra, which would print them its own way and, in a sweep, stop at the first.
        try:
            codes.append(run_composed(config))
        except UserError as error:
            mistakes.append(error)
        except BrokenPipeError:  # the reader of our output, `head` say, has seen enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        except Exception as error:
            explained = explain(error, sys.argv[1:], CONF)
            if explained is None:
                raise
            mistakes.append(explained)

    with TemporaryDirectory() as aside:
        if {"-m", "--multirun"} & set(sys.argv):
            # Hydra writes a multirun.yaml there; the jobs' own folders are the record.
            sys.argv.append(f"hydra.sweep.dir={aside}")
        job()  # pyright: ignore[reportCallIssue]  (hydra.main supplies the configuration)
    for mistake in mistakes:
        _say(mistake)
    return USAGE_ERROR if mistakes else max(codes)


def run_composed(composed: DictConfig) -> int:
    """Validates, plans and runs one composed configuration; returns the exit code.

    Raises:
        UserError: For anything wrong with the configuration or the data; nothing is written then.
    """
    from hydra.core.hydra_config import HydraConfig
    from omegaconf import OmegaConf

    from unlearn_runner.config.root import refuse_selection
    from unlearn_runner.distributed.external import world
    from unlearn_runner.pipeline.job import plan_config

    hydra = HydraConfig.get()
    resolved = OmegaConf.to_container(composed, resolve=True, throw_on_missing=True)
    config = cast(dict[str, Any], resolved)
    job = plan_config(config, _name, hydra.runtime.choices)
    refuse_selection(job.run)
    overrides = _typed(hydra)
    if job.run.plan_only:
        from unlearn_runner.config.origins import print_settings
        from unlearn_runner.pipeline.tables import print_plan

        print_plan(job)
        places = [Path(source.path) for source in hydra.runtime.config_sources]
        print_settings(overrides, job.config, places)
        return 0
    if job.run.estimate:
        from unlearn_runner.commands.estimate.command import estimate

        estimate(job.run, job.plan)
        return 0
    if job.run.cluster.elsewhere and not world():
        from unlearn_runner.sweeps.sweep import run_one

        return run_one(job, overrides)
    from unlearn_runner.pipeline.runner import start_job

    return start_job(job)


def _typed(hydra: Any) -> list[str]:
    """Returns the overrides as they were typed; a resolver may bring a secret in."""
    from omegaconf import OmegaConf

    return cast(list[str], OmegaConf.to_container(hydra.overrides.task, resolve=False))


def _name(run: Run) -> str:
    """Returns the run folder's name below the outputs folder."""
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode

    from unlearn_runner.config import names

    hydra = HydraConfig.get()
    derived = names.derive(_typed(hydra), hydra.runtime.choices)
    if hydra.mode == RunMode.MULTIRUN:
        # A swept value names the job; what all jobs share names the sweep.
        sweep = names.checked(run.name) if run.name else "sweep"
        return f"sweeps/{sweep}/{derived}"
    return f"runs/{names.checked(run.name) if run.name else derived}"


if __name__ == "__main__":
    console()
