"""The entry point: compose, check, plan, run, report.

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
from tempfile import TemporaryDirectory
from typing import Any

from unlearn_runner.errors import SIGNALLED, USAGE_ERROR, UserError
from unlearn_runner.help import CONF, print_help


def main() -> int:
    """Runs the command line in `sys.argv`; returns the exit code."""
    arguments = sys.argv[1:]
    if "--help" in arguments or "-h" in arguments:
        print_help()
        return 0
    sys.argv[0] = "unlearn"  # what usage messages call the program
    try:
        if "RANK" in os.environ:  # started by torchrun or accelerate
            from unlearn_runner.foreign import adopted

            arguments = adopted(arguments)
        from unlearn_runner.explain import checked, sweeps

        sys.argv[1:] = checked(arguments, CONF)
        prepare_process()
        if sweeps(sys.argv[1:]):
            from unlearn_runner.sweeps import sweep

            return sweep.run(sys.argv[1:])
        return _compose_and_run()
    except UserError as error:
        _say(error)
        return USAGE_ERROR
    except KeyboardInterrupt as error:
        from unlearn_runner.job import command

        _say(f"interrupted; to continue: {command()}")
        return SIGNALLED + getattr(error, "number", signal.SIGINT)
    except Exception as error:
        from unlearn_runner.explain import explain

        explained = explain(error, arguments, CONF)
        if explained is not None:
            _say(explained)
            return USAGE_ERROR
        traceback.print_exc()
        return 1


def console() -> None:
    """The `unlearn` command."""
    sys.exit(main())


def _say(words: object) -> None:
    """Says it once, however many ranks would."""
    if os.environ.get("RANK", "0") == "0":
        print(words, file=sys.stderr, flush=True)
    elif "TORCHELASTIC_RUN_ID" in os.environ:
        time.sleep(3)  # torchrun ends all ranks with the first that leaves: rank 0 is to speak


def prepare_process() -> None:
    """Sets what must stand in the environment before Hydra and torch are loaded."""
    # Hydra swallows the cause of an error and exits by itself unless this is set.
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")
    # Before torch: OpenMP threads that spin while they wait stall each other, several times over,
    # as soon as another job shares a core.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def _compose_and_run() -> int:
    import hydra

    mistakes: list[UserError] = []
    codes = [0]

    @hydra.main(version_base="1.3", config_path=str(CONF), config_name="config")
    def job(config: Any) -> None:
        from unlearn_runner.experiment import run_composed
        from unlearn_runner.explain import explain

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


if __name__ == "__main__":
    console()
