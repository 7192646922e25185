"""The command `unlearn`: help and version here, the rest in `commands.unlearn`.

    python -m unlearn_runner method=npo rectifier=gru rectifier.gamma=0.9
    unlearn benchmark=tofu benchmark.data_dir=FOLDER plan_only=true
    unlearn method=npo --help

Help loads nothing but this, and of an option its class.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from unlearn_runner.commands.unlearn import run_command


def main() -> int:
    """Runs the command line in `sys.argv`; returns the exit code."""
    arguments = sys.argv[1:]
    sys.argv[0] = "unlearn"  # what usage messages call the program
    if "--help" in arguments or "-h" in arguments:
        return print_help(arguments)
    if "--version" in arguments:
        from unlearn_runner import __version__

        print(f"unlearn-runner {__version__}")
        return 0
    return run_command(arguments)


def print_help(arguments: Sequence[str]) -> int:
    """Prints what the options on a command line are and take, or the usage; returns the code."""
    from unlearn_runner.config import groups

    if not any(word.partition("=")[0] in groups.groups() for word in arguments):
        groups.print_help()
        return 0
    from unlearn_runner.commands.shell import answered
    from unlearn_runner.config.option_help import print_options

    return answered(lambda: print_options(arguments))


if __name__ == "__main__":
    sys.exit(main())
