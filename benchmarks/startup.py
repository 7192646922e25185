"""What the answers cost that should come at once: help, a usage error, a plan.

    python benchmarks/startup.py [--rounds 5]

Prints the smallest and the median wall-clock and processor seconds of each command. Nothing is
asserted: the tests hold that such answers import nothing heavy, this says what that comes to.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import subprocess
import sys
import time
from tempfile import TemporaryDirectory

from rich.table import Table

from unlearn_runner.utils.console import results_console

COMMANDS = {
    "help": ("--help",),
    "a group mistyped": ("methd=ga",),
    "a setting mistyped": ("train.lrr=1",),
    "a value out of bounds": ("rectifier.gamma=2",),
    "the plan of a run": ("plan_only=true",),
    "the plan of 84 sweep jobs": ("sweep=gru_gamma_tau", "method=ga", "plan_only=true"),
}


def measure(arguments: tuple[str, ...], folder: str) -> tuple[float, float]:
    """Returns the wall-clock and the processor seconds of one command."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    command = [sys.executable, "-m", "unlearn_runner.run", *arguments]
    subprocess.run(command, cwd=folder, capture_output=True, check=False)
    wall, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    """Measures every command and prints a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("--rounds", type=int, default=5, help="runs of each command")
    rounds = max(parser.parse_args().rounds, 1)
    table = Table("command", "wall min, s", "wall median, s", "cpu min, s", "cpu median, s")
    with TemporaryDirectory() as folder:
        for name, arguments in COMMANDS.items():
            runs = [measure(arguments, folder) for _ in range(rounds)]
            columns = zip(*runs, strict=True)
            cells = (f"{pick(c):.2f}" for c in columns for pick in (min, statistics.median))
            table.add_row(name, *cells)
    results_console().print(table)


if __name__ == "__main__":
    main()
