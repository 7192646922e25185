"""Way of a command that runs jobs: parse, compose, branch, report mistakes.

Hydra composes the configuration in this one plain process; everything that can be wrong with a
command is said before torch is loaded and before anything is written.
"""

from __future__ import annotations

import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from unlearn_runner.errors import FAILURE, SIGNALLED, USAGE_ERROR, UserError
from unlearn_runner.utils.redact import redacted

if TYPE_CHECKING:
    from unlearn_runner.config.compose import Composed


def run_command(
    arguments: Sequence[str], translate: Callable[[Sequence[str]], list[str]] = list
) -> int:
    """Runs the job or the sweep of a command line; returns the exit code.

    Args:
        arguments: As typed.
        translate: Returns them in the words of `unlearn`; may raise `UserError`.
    """
    try:
        return _run(translate(arguments))
    except UserError as error:
        _print_error(error)
        return USAGE_ERROR
    except BrokenPipeError:  # the reader of our output, `head` say, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt as error:
        from unlearn_runner.utils.process import command

        _print_error(f"interrupted; to continue: {command()}")
        return SIGNALLED + getattr(error, "number", signal.SIGINT)
    except Exception:
        print(redacted(traceback.format_exc()), file=sys.stderr)
        return FAILURE


def _print_error(words: object) -> None:
    """Prints an error once, however many ranks would."""
    from unlearn_runner.distributed.external import main_rank

    if main_rank():
        print(redacted(str(words)), file=sys.stderr, flush=True)
    elif "TORCHELASTIC_RUN_ID" in os.environ:
        time.sleep(3)  # torchrun ends all ranks with the first that leaves: rank 0 is to speak


def _run(arguments: list[str]) -> int:
    """Checks a command line, and runs one job or a sweep."""
    from unlearn_runner.distributed.external import world

    if world():  # started by torchrun or accelerate
        from unlearn_runner.config.external import adopt

        arguments = adopt(arguments)
    from unlearn_runner.config.command_line import parse
    from unlearn_runner.utils.process import few_collections, prepare_process

    command = parse(arguments)
    sys.argv[1:] = command.words
    prepare_process()
    if command.for_hydra:
        from unlearn_runner.config import hydra_app

        return hydra_app.run(command, run_composed, _print_error)
    if command.is_sweep:
        from unlearn_runner.sweeps import sweep

        return sweep.run(command)
    with few_collections():
        from unlearn_runner.config.compose import compose

        composed = compose(command.overrides, command.folders)
    return run_composed(composed)


def run_composed(composed: Composed) -> int:
    """Validates, plans and runs one composed configuration; returns the exit code.

    Raises:
        UserError: For anything wrong with the configuration or the data; nothing is written then.
    """
    from unlearn_runner.config.root import refuse_selection
    from unlearn_runner.distributed.external import world
    from unlearn_runner.pipeline.job import plan_config
    from unlearn_runner.utils.process import few_collections

    if composed.config.get("estimate"):
        from unlearn_runner.commands.estimate.offline import without_hub

        without_hub(composed.config)
    with few_collections():
        job = plan_config(composed.config, composed.name_run, composed.choices)
    refuse_selection(job.run)
    if job.run.plan_only:
        from unlearn_runner.config.origins import print_settings
        from unlearn_runner.pipeline.tables import print_plan

        print_plan(job)
        print_settings(composed.overrides, job.config, composed.folders)
        return 0
    if job.run.estimate:
        from unlearn_runner.commands.estimate.command import estimate

        estimate(job.run, job.plan)
        return 0
    if job.run.cluster.elsewhere and not world():
        from unlearn_runner.sweeps.sweep import run_one

        return run_one(job, composed.overrides)
    from unlearn_runner.pipeline.runner import start_job

    return start_job(job)
