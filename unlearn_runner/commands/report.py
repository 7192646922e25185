"""A report of runs: one HTML page, tables and figures, from their folders alone.

    unlearn-report outputs/sweeps/NAME      writes outputs/sweeps/NAME/report/report.html
    unlearn-report outputs/runs/A outputs/runs/B --out FOLDER

DIR is a run's folder, a sweep's, or one that holds several. The page needs no network. Beside it:
its tables as CSV, Markdown and LaTeX, `paper.md` and `paper.tex` for a paper, its figures as SVG
and, where matplotlib is installed, as PDF.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from unlearn_runner.commands.shell import Parser, answered
from unlearn_runner.errors import ConfigError, UserError, listed, nearest
from unlearn_runner.report.compare import Axes, Comparison
from unlearn_runner.report.discovery import find_runs
from unlearn_runner.utils.disk import refusal
from unlearn_runner.utils.text import size


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command line; returns the exit code."""
    return answered(lambda: _report(_parser().parse_args(arguments)))


def _report(args: argparse.Namespace) -> None:
    found = find_runs(args.folders, telemetry=True)
    compared = Comparison(found.runs)
    usual = Axes.among(compared.metrics)
    for key in ("utility", "forget"):
        if getattr(args, key) is not None:
            _check(args.folders, f"--{key}", getattr(args, key), compared.metrics)
    axes = Axes(args.utility or usual.utility, args.forget or usual.forget)
    compared = Comparison(found.runs, axes, found.left_out)
    columns = [name.strip() for name in (args.columns or "").split(",") if name.strip()]
    for name in columns:
        _check(args.folders, "--columns", name, compared.metrics)
    for note in compared.notes:
        print(note, file=sys.stderr)
    if args.baseline is not None and args.baseline > len(found.runs):
        raise ConfigError(
            f"--baseline {args.baseline}: there are {len(found.runs)} runs", "--baseline 1"
        )
    # Imported here: a mistake is answered without it.
    from unlearn_runner.report.build import report, title, write

    only = args.folders[0] if len(args.folders) == 1 else Path()
    out = args.out or only / "report"
    files = report(compared, title(args.folders), args.answers, args.store, args.baseline, columns)
    try:
        write(files, out)
    except OSError as error:
        raise refusal(error, out) or UserError(
            f"{out} cannot be written: {error.strerror}", "--out FOLDER"
        ) from None
    page = out / "report.html"
    others = [name for name in files if name != page.name]
    drawn = [name for name in others if name.endswith((".svg", ".pdf"))]
    print(f"tables   {listed(name for name in others if name not in drawn)}")
    print(f"figures  {listed(drawn)}")
    print(f"report   {page}  ({size(page.stat().st_size)}, {len(compared.runs)} runs)")


def _check(folders: Sequence[Path], flag: str, metric: str, known: Sequence[str]) -> None:
    """Refuses a metric that no run has."""
    if metric not in known:
        close = nearest(metric, known)
        raise ConfigError(
            f"{flag} {metric}: no run has that score; there are {listed(known, 20)}",
            shlex.join(
                ["unlearn-report", *map(str, folders), flag, close or (known or ["METRIC"])[0]]
            ),
        )


def _parser() -> argparse.ArgumentParser:
    form = argparse.RawDescriptionHelpFormatter
    parser = Parser(
        prog="unlearn-report", description=__doc__, formatter_class=form, allow_abbrev=False
    )
    parser.add_argument("folders", metavar="DIR", type=Path, nargs="+", help="runs, sweeps")
    parser.add_argument("--out", metavar="FOLDER", type=Path, help="where the report goes")
    parser.add_argument("--utility", metavar="METRIC", help="what is kept")
    parser.add_argument("--forget", metavar="METRIC", help="what is forgotten")
    parser.add_argument(
        "--answers", metavar="N", type=_count, default=5, help="answers shown per view (5)"
    )
    parser.add_argument(
        "--baseline", metavar="RUN", type=_count, help="number of a run to compare settings with"
    )
    parser.add_argument(
        "--columns", metavar="A,B", help="scores of the paper table (the main ones)"
    )
    parser.add_argument("--store", metavar="FOLDER", type=Path, help="where the evidence is")
    return parser


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a whole number from 1 on")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
