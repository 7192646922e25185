"""What moved: figures of a benchmark beside those of an earlier commit, in `benchmarks/baselines/`.

    python benchmarks/compare.py NEW.json                      with the baseline of the same name
    python benchmarks/compare.py NEW.json --baseline OLD.json

A figure has moved when its spread does not meet the one it had. Where the hardware is another, or
other work shared the machine, ratios of two sides that took turns say more than seconds.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from rich.table import Table

from unlearn_runner.utils.console import results_console

BASELINES = Path(__file__).parent / "baselines"


@dataclass(frozen=True)
class Figure:
    """A number that was measured several times."""

    value: float
    """Median."""
    lowest: float
    highest: float

    @staticmethod
    def of(values: Sequence[float]) -> Figure:
        """Returns the figure of several measurements."""
        return Figure(statistics.median(values), min(values), max(values))

    def moved(self, before: Figure) -> bool:
        """Returns whether the two spreads do not meet."""
        return self.lowest > before.highest or self.highest < before.lowest


@dataclass(frozen=True)
class Baseline:
    """Figures, and where they come from."""

    hardware: str
    commit: str
    command: str
    figures: dict[str, Figure]

    @staticmethod
    def read(path: Path) -> Baseline:
        """Reads a baseline file."""
        content = json.loads(path.read_text())
        figures = {name: Figure(**figure) for name, figure in content.pop("figures").items()}
        return Baseline(**content, figures=figures)


def write(path: Path, command: str, measured: dict[str, Sequence[float]]) -> None:
    """Writes the figures of a benchmark that has run on this machine, at this commit."""
    git = ("git", "-C", str(BASELINES.parent), "describe", "--always", "--dirty", "--exclude=*")
    commit = subprocess.run(git, capture_output=True, text=True, check=False).stdout.strip()
    figures = {name: Figure.of(values) for name, values in measured.items()}
    found = Baseline(hardware(), commit or "unknown", command, figures)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(asdict(found), indent=1) + "\n")


def hardware() -> str:
    """Returns processor, cores, threads that are used, and torch's version."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    name = names[0] if names else platform.machine()
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "no accelerator"
    threads = torch.get_num_threads()
    return (
        f"{name}, {os.cpu_count()} cores, {threads} thread(s), {device}, torch {torch.__version__}"
    )


def main() -> None:
    """Prints both, and what moved."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("new", type=Path, help="what a benchmark's --baseline wrote")
    parser.add_argument("--baseline", type=Path, help="of the same name in benchmarks/baselines/")
    args = parser.parse_args()
    now = Baseline.read(args.new)
    before = Baseline.read(args.baseline or BASELINES / args.new.name)
    table = Table("figure", "before", "now", "change", "", title=now.command, title_justify="left")
    for name in dict.fromkeys([*before.figures, *now.figures]):
        table.add_row(*_row(name, before.figures.get(name), now.figures.get(name)))
    results_console().print(table)
    results_console().print(f"before: {before.commit}, {before.hardware}", markup=False)
    results_console().print(f"now:    {now.commit}, {now.hardware}", markup=False)


def _row(name: str, before: Figure | None, now: Figure | None) -> tuple[str, ...]:
    if before is None or now is None:
        return name, _shown(before), _shown(now), "", "new" if before is None else "gone"
    change = f"{now.value / before.value - 1:+.1%}" if before.value else ""
    return name, _shown(before), _shown(now), change, "moved" if now.moved(before) else ""


def _shown(figure: Figure | None) -> str:
    if figure is None:
        return "-"
    return f"{figure.value:.4g} ({figure.lowest:.4g}-{figure.highest:.4g})"


if __name__ == "__main__":
    main()
