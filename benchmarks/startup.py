"""What answers cost that should come at once: help, a usage error, a plan, a cached run, tables.

    python benchmarks/startup.py [--rounds 5] [--runs 2000] [--out benchmarks/results/startup.json]

Processor seconds (user and system, with children) of each command, the median of several, against
what it may cost. Run folders are copies of a real `debug=tiny` run's under other names and seeds.
Nothing is asserted: the tests hold that such answers import nothing heavy, this says what that
comes to.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import shutil
import statistics
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from tempfile import TemporaryDirectory

from rich.table import Table

from unlearn_runner.utils.console import results_console
from unlearn_runner.utils.files import write_json

UNLEARN, STATUS, REPORT = (
    "unlearn_runner.run",
    "unlearn_runner.commands.status",
    "unlearn_runner.commands.report",
)
TINY = ("debug=tiny", "method=ga", "parallel.threads=1", "name=tiny")


@dataclass(frozen=True)
class Command:
    """A command, and the processor seconds that it may cost."""

    module: str
    arguments: tuple[str, ...]
    allowed: float | None = None
    fails: bool = False


def commands(runs: int) -> dict[str, Command]:
    """Returns the commands by what they are; they stand in a folder with so many runs."""
    return {
        "help": Command(UNLEARN, ("--help",)),
        "help of an option": Command(UNLEARN, ("method=npo", "--help")),
        "usage error: a group mistyped": Command(UNLEARN, ("methd=ga",), 0.8, True),
        "usage error: a setting mistyped": Command(UNLEARN, ("train.lrr=1",), 0.8, True),
        "usage error: a value out of bounds": Command(UNLEARN, ("rectifier.gamma=2",), 0.8, True),
        "the plan of a run": Command(UNLEARN, ("plan_only=true",), 1.3),
        "the plan of 84 sweep jobs": Command(
            UNLEARN, ("sweep=gru_gamma_tau", "method=ga", "plan_only=true")
        ),
        "a cached run": Command(UNLEARN, TINY, 1.6),
        f"unlearn-status of {runs} runs": Command(STATUS, ("outputs/sweeps/many", "--once"), 3.0),
        f"unlearn-report of {runs} runs": Command(REPORT, ("outputs/sweeps/many",), 10.0),
    }


@dataclass(frozen=True)
class Measured:
    """What the rounds of one command cost, in seconds."""

    name: str
    allowed: float | None
    processor: float
    """Median."""
    processor_all: list[float]
    wall: float
    """Median."""


def measure(name: str, command: Command, folder: Path, rounds: int) -> Measured:
    """Returns what a command costs."""
    found = [_once(command, folder) for _ in range(rounds)]
    processor, wall = (list(column) for column in zip(*found, strict=True))
    median = statistics.median
    return Measured(name, command.allowed, median(processor), processor, round(median(wall), 3))


def _once(command: Command, folder: Path) -> tuple[float, float]:
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    words = [sys.executable, "-m", command.module, *command.arguments]
    if command.module == UNLEARN:
        words.append(f"output_dir={folder / 'outputs'}")
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True, check=False)
    wall, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    if (done.returncode != 0) != command.fails:
        raise RuntimeError(f"{words} ended with {done.returncode}: {done.stderr}")
    spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return round(spent, 3), wall


def copies(source: Path, sweep: Path, count: int) -> None:
    """Makes so many run folders of one, with other names, seeds and scores."""
    config = (source / "config.yaml").read_text(encoding="utf-8")
    results = json.loads((source / "results.json").read_text(encoding="utf-8"))
    for number in range(count):
        lr = f"{1e-5 * (1 + number // 2):.6g}"
        folder = sweep / f"pocket-ga-gru,seed={number % 2},train.lr={lr}"
        shutil.copytree(source, folder)
        text = config.replace("\nseed: 0\n", f"\nseed: {number % 2}\n").replace(
            "\n  lr: 8.0e-05\n", f"\n  lr: {lr}\n"
        )
        (folder / "config.yaml").write_text(text, encoding="utf-8")
        scores = {
            k: v if v is None or k.startswith(("target.", "retain_model.")) else v + 1e-6 * number
            for k, v in results["scores"].items()
        }
        changed = {**results, "name": folder.name, "scores": scores}
        (folder / "results.json").write_text(json.dumps(changed), encoding="utf-8")


def machine() -> dict[str, object]:
    """Returns what ran it; no names of hosts."""
    model = ""
    info = Path("/proc/cpuinfo")
    if info.is_file():
        names = (x.partition(":")[2].strip() for x in info.read_text().splitlines() if "name" in x)
        model = next(names, "")
    return {
        "processor": model or platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "load before": round(os.getloadavg()[0], 1),
        "python": platform.python_version(),
        "torch": metadata.version("torch"),
        "matplotlib": any(d.name == "matplotlib" for d in metadata.distributions()),
    }


def main() -> None:
    """Measures every command, prints a table and writes the numbers."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("--rounds", type=int, default=5, help="runs of each command")
    parser.add_argument("--runs", type=int, default=2000, help="run folders of the tables")
    parser.add_argument("--out", type=Path, help="where the numbers go, as JSON")
    args = parser.parse_args()
    facts, found = machine(), list[Measured]()
    with TemporaryDirectory() as place:
        folder = Path(place)
        _once(Command(UNLEARN, TINY), folder)
        copies(folder / "outputs/runs/tiny", folder / "outputs/sweeps/many", args.runs)
        for name, command in commands(args.runs).items():
            found.append(measure(name, command, folder, max(args.rounds, 1)))
    table = Table("command", "processor s, median", "all", "may cost", "wall s, median")
    for one in found:
        allowed = "" if one.allowed is None else f"{one.allowed:.1f}"
        spread = f"{min(one.processor_all):.2f} to {max(one.processor_all):.2f}"
        table.add_row(one.name, f"{one.processor:.2f}", spread, allowed, f"{one.wall:.2f}")
    results_console().print(table)
    if args.out is not None:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        write_json(args.out, {"machine": facts, "commands": [asdict(one) for one in found]})


if __name__ == "__main__":
    main()
