"""How a sweep stands: a live table of its runs, from their files alone.

    unlearn-status outputs/sweeps/NAME          until nothing runs any more, or Ctrl-C
    unlearn-status outputs/sweeps/NAME --once   prints once

DIR is a run's folder, a sweep's, or one that holds several. It may run anywhere the files are seen.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from rich.live import Live

from unlearn_runner.errors import ConfigError, DataError, UserError
from unlearn_runner.progress import results_console
from unlearn_runner.report.live import show

USAGE_ERROR, INTERRUPTED = 2, 130
BORDERS = 6  # lines of the screen that are no rows


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise ConfigError(message, "unlearn-status --help")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command line; returns the exit code."""
    try:
        asked = _parser().parse_args(arguments)
        if asked.once or not sys.stdout.isatty():
            results_console().print(show(asked.folders)[0])
        else:
            _live(asked.folders, asked.every)
    except UserError as error:
        print(error, file=sys.stderr)
        return USAGE_ERROR
    except BrokenPipeError:  # the reader of our output, `head` say, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except KeyboardInterrupt:
        return INTERRUPTED
    return 0


def console() -> NoReturn:
    """The `unlearn-status` command."""
    sys.exit(main())


def _live(folders: Sequence[Path], every: float) -> None:
    out = results_console()
    shown, alive = show(folders, out.height - BORDERS)
    with Live(shown, console=out, auto_refresh=False) as screen:
        while alive:
            time.sleep(every)
            try:
                shown, alive = show(folders, out.height - BORDERS)
            except DataError:  # a network disk may show half of a file that is being replaced
                continue
            screen.update(shown, refresh=True)


def _parser() -> argparse.ArgumentParser:
    form = argparse.RawDescriptionHelpFormatter
    parser = _Parser(
        prog="unlearn-status", description=__doc__, formatter_class=form, allow_abbrev=False
    )
    parser.add_argument("folders", metavar="DIR", type=Path, nargs="+", help="runs, sweeps")
    parser.add_argument("--once", action="store_true", help="print once and exit")
    parser.add_argument(
        "--every", metavar="S", type=_seconds, default=2.0, help="seconds between looks (2)"
    )
    return parser


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < 86400:
        raise argparse.ArgumentTypeError(f"{text} is not a number of seconds")
    return value


if __name__ == "__main__":
    console()
