"""The command `unlearn`: help and version here, the rest in `commands.unlearn`.

    python -m unlearn_runner method=npo rectifier=gru rectifier.gamma=0.9
    unlearn benchmark=tofu benchmark.data_dir=FOLDER plan_only=true

Help loads nothing but this.
"""

from __future__ import annotations

import sys

from unlearn_runner.commands.unlearn import run_command


def main() -> int:
    """Runs the command line in `sys.argv`; returns the exit code."""
    arguments = sys.argv[1:]
    sys.argv[0] = "unlearn"  # what usage messages call the program
    if "--help" in arguments or "-h" in arguments:
        from unlearn_runner.config.groups import print_help

        print_help()
        return 0
    if "--version" in arguments:
        from unlearn_runner import __version__

        print(f"unlearn-runner {__version__}")
        return 0
    return run_command(arguments)


if __name__ == "__main__":
    sys.exit(main())
