"""How a sweep stands: a live table of its runs, from their files alone.

    unlearn-status outputs/sweeps/NAME          until nothing runs any more, or Ctrl-C
    unlearn-status outputs/sweeps/NAME --once   prints once

DIR is a run's folder, a sweep's, or one that holds several. It may run anywhere the files are seen.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from rich.live import Live

from unlearn_runner.commands.shell import Parser, answered
from unlearn_runner.errors import DataError
from unlearn_runner.report.status_table import show
from unlearn_runner.utils.console import results_console

UNCUT = 1000
"""Characters of a line where no terminal sets them: names and notes are searched whole."""
BORDERS = 6  # lines of the screen that are no rows


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command line; returns the exit code."""
    return answered(lambda: _status(_parser().parse_args(arguments)))


def _status(args: argparse.Namespace) -> None:
    if args.once or not sys.stdout.isatty():
        table, _, left_out = show(args.folders)
        results_console(wide=UNCUT).print(table)
        for problem in left_out:
            print(f"Left out: {problem}", file=sys.stderr)
    else:
        _live(args.folders, args.every)


def _live(folders: Sequence[Path], every: float) -> None:
    out = results_console()
    shown, alive, _ = show(folders, out.height - BORDERS)
    with Live(shown, console=out, auto_refresh=False) as screen:
        while alive:
            time.sleep(every)
            try:
                shown, alive, _ = show(folders, out.height - BORDERS)
            except DataError:  # a network disk may show half of a file that is being replaced
                continue
            screen.update(shown, refresh=True)


def _parser() -> argparse.ArgumentParser:
    form = argparse.RawDescriptionHelpFormatter
    parser = Parser(
        prog="unlearn-status", description=__doc__, formatter_class=form, allow_abbrev=False
    )
    parser.add_argument("folders", metavar="DIR", type=Path, nargs="+", help="runs, sweeps")
    parser.add_argument("--once", action="store_true", help="print once and exit")
    parser.add_argument(
        "--every", metavar="S", type=_seconds, default=2.0, help="seconds between updates (2)"
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
    sys.exit(main())
