"""Whether rectifiers keep more at equal forgetting: runs, tables and the figure of the page.

    python scripts/does_rectification_help.py --output FOLDER

Plan and words: docs/does-rectification-help.md. Runs are taken from the folder's store where they
are there already, so a command that was killed goes on. Writes docs/data/rectification.csv (a row
per run) and, with the extra `figures`, docs/figures/rectification.svg; prints the page's tables.
"""

from __future__ import annotations

import argparse
import csv
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rectification_runs import DRAWS, LEFT, METHODS, RECTIFIERS, SEEDS, Cell, Experiment

ROOT = Path(__file__).resolve().parents[1]
GAMMAS, TAUS = ("0.1", "0.3", "0.5", "0.7", "0.9", "0.99"), ("0.01", "0.1", "1", "10")
FREE = ("train.clip=null",)
LOWER = "1e-4"
"""A rate below the plan's, over twice its steps."""


@dataclass
class Comparison:
    """A rectifier beside none, at the same method."""

    plain: Cell
    rectified: Cell
    rates: tuple[str, str]
    kept: tuple[float, float]
    """Mean over the seeds, without and with."""
    by_seed: list[float]
    low: float
    high: float
    p: float
    """Two-sided, of the bootstrap over people; `holm` makes it that of all comparisons."""
    unreached: float
    """Share of the draws in which one of the runs never forgets so much."""

    @property
    def change(self) -> float:
        """With minus without."""
        return self.kept[1] - self.kept[0]

    @property
    def verdict(self) -> str:
        """What the plan calls real, and its direction."""
        alike = len({value > 0 for value in self.by_seed}) == 1
        if not (self.p < 0.05 and alike):
            return ""
        return "more" if self.change > 0 else "less"


def compare(
    experiment: Experiment,
    plain: Cell,
    rectified: Cell,
    rates: tuple[str, str],
    what: str,
    left: float,
) -> Comparison:
    """Compares two cells on part B, seeds paired and the same people drawn in both."""
    observed, drawn = [], []
    for seed in SEEDS:
        curves = [
            experiment.curve(cell, rate, seed)
            for cell, rate in zip((plain, rectified), rates, strict=True)
        ]
        observed.append([experiment.kept(c, "B", what, left)[0] for c in curves])
        drawn.append([experiment.kept(c, "B", what, left, DRAWS) for c in curves])
    means = np.mean(observed, 0)
    changes = np.mean([with_ - without for without, with_ in drawn], 0)
    known = changes[~np.isnan(changes)]
    low, high = np.quantile(known, (0.025, 0.975)) if len(known) else (np.nan, np.nan)
    tail = min((known <= 0).sum(), (known >= 0).sum()) + 1
    p = min(1.0, 2 * tail / (len(known) + 1)) if len(known) else np.nan
    by_seed = [float(b - a) for a, b in observed]
    kept = (float(means[0]), float(means[1]))
    unreached = 1 - len(known) / len(changes)
    return Comparison(plain, rectified, rates, kept, by_seed, low, high, p, unreached)


def holm(found: Sequence[Comparison]) -> None:
    """Corrects the p-values of several comparisons for their number (Holm 1979)."""
    known = sorted((c for c in found if not np.isnan(c.p)), key=lambda c: c.p)
    least = 0.0
    for place, comparison in enumerate(known):
        least = max(least, min(1.0, comparison.p * (len(found) - place)))
        comparison.p = least


def runs(experiment: Experiment) -> tuple[list[Cell], dict[Cell, str]]:
    """Runs everything: each cell's trials and then its seeds; then what stands beside it."""
    cells = [Cell(method, rectifier) for method in METHODS for rectifier in RECTIFIERS]
    rates: dict[Cell, str] = {}
    for cell in cells:
        rates[cell] = experiment.chosen(cell)
        for seed in SEEDS:
            experiment.curve(cell, rates[cell], seed)
    for cell, rate in beside(rates):
        for seed in SEEDS if cell.more == FREE else SEEDS[:1]:
            experiment.curve(cell, rate, seed)
    return cells, rates


def beside(rates: Mapping[Cell, str]) -> Iterator[tuple[Cell, str]]:
    """Yields what the plan has beside the grid, with its learning rate."""
    for method in ("ga", "npo"):
        for rectifier in ("none", "gru"):
            yield Cell(method, rectifier, FREE), rates[Cell(method, rectifier)]
        for rectifier in ("none", "gru", "sago"):
            yield Cell(method, rectifier, times=2), LOWER
        for name, values in (("gamma", GAMMAS), ("tau", TAUS)):
            for value in values:
                more = (f"rectifier.{name}={value}",)
                yield Cell(method, "gru", more), rates[Cell(method, "gru")]


def number(value: float, sign: str = "") -> str:
    """Returns three digits, or a dash where there is nothing."""
    return "-" if np.isnan(value) else f"{value:{sign}.3f}".replace("0.", ".", 1)


def table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Prints a table as Markdown."""
    print("\n| " + " | ".join(columns) + " |")
    print("|" + "---|" * 2 + "---:|" * (len(columns) - 2))
    for row in rows:
        print("| " + " | ".join(row) + " |")
    print()


def grid(
    experiment: Experiment, cells: Sequence[Cell], rates: Mapping[Cell, str]
) -> list[Comparison]:
    """Prints all comparisons, of the first outcome at first; returns those."""
    pairs = [(Cell(cell.method, "none"), cell) for cell in cells if cell.rectifier != "none"]
    first: list[Comparison] = []
    for what in ("utility", "retain"):
        for left in LEFT:
            found = [compare(experiment, a, b, (rates[a], rates[b]), what, left) for a, b in pairs]
            holm(found)
            first = first or found
            print(f"{what} where {left:g} of the forget probability is left, part B")
            names = ("method", "rectifier", "lr without", "with", "kept without", "with", "change")
            more = ("95 % over people", "seeds", "p (Holm)", "real", "conflict", "norm left")
            table((*names, *more), [_row(experiment, c) for c in found])
    return first


def _row(experiment: Experiment, c: Comparison) -> list[str]:
    mine = [
        row
        for row in experiment.done
        if (row["method"], row["rectifier"], row["more"])
        == (c.plain.method, c.rectified.rectifier, "")
        and (row["lr"], row["times"]) == (c.rates[1], 1)
    ]
    facts = []
    for name in ("conflict", "surviving"):
        values = [row[name] for row in mine if row[name] != ""]
        facts.append(number(float(np.mean(values))) if values else "-")
    interval = f"{number(c.low, '+')} .. {number(c.high, '+')}"
    interval += f" ({c.unreached:.0%} not reached)" if c.unreached else ""
    seeds = f"{number(min(c.by_seed), '+')} .. {number(max(c.by_seed), '+')}"
    kept = [number(value) for value in c.kept]
    start = [c.plain.method, c.rectified.rectifier, *c.rates, *kept, number(c.change, "+")]
    return [*start, interval, seeds, number(c.p), c.verdict, *facts]


def others(experiment: Experiment, rates: Mapping[Cell, str]) -> None:
    """Prints what stands beside the grid: no clipping, gammas and taus."""
    rows = []
    for cell, rate in beside(rates):
        seeds = SEEDS if cell.more == FREE else SEEDS[:1]
        curves = [experiment.curve(cell, rate, seed) for seed in seeds]
        at = [
            number(float(np.mean([experiment.kept(c, "B", what, left)[0] for c in curves])))
            for what in ("utility", "retain")
            for left in LEFT
        ]
        setting = " ".join(cell.more) or "twice the steps"
        rows.append([cell.method, cell.rectifier, setting, rate, str(len(seeds)), *at])
    columns = [f"{what} at {left:g}" for what in ("utility", "retain") for left in LEFT]
    table(("method", "rectifier", "setting", "lr", "seeds", *columns), rows)


def draw(found: Sequence[Comparison], path: Path) -> None:
    """Draws an arrow from none to each rectifier, method by method, with its interval."""
    import matplotlib as mpl  # pyright: ignore[reportMissingImports]

    mpl.use("svg")
    mpl.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "rectification", "font.size": 9})
    from matplotlib import pyplot as plt  # pyright: ignore[reportMissingImports]

    figure, axes = plt.subplots(figsize=(8.6, 4.2))
    names = [name for name in RECTIFIERS if name != "none"]
    for c in found:
        if np.isnan(c.change):
            continue
        at = METHODS.index(c.plain.method) + (names.index(c.rectified.rectifier) - 2) * 0.15
        color = f"C{names.index(c.rectified.rectifier)}"
        ends = c.kept[0] + c.low, c.kept[0] + c.high
        axes.plot((at, at), ends, color=color, linewidth=5, alpha=0.25, solid_capstyle="butt")
        axes.annotate(
            "", (at, c.kept[1]), (at, c.kept[0]), arrowprops={"arrowstyle": "->", "color": color}
        )
        axes.plot(at, c.kept[1], ".", color=color, label=c.rectified.rectifier)
    for place, method in enumerate(METHODS):
        kept = next(c.kept[0] for c in found if c.plain.method == method)
        axes.plot((place - 0.4, place + 0.4), (kept, kept), color="0.35", linewidth=1)
    handles, labels = axes.get_legend_handles_labels()
    first = [labels.index(name) for name in names]
    axes.legend(
        [handles[i] for i in first], names, frameon=False, ncols=len(names), loc="lower right"
    )
    axes.set_xticks(range(len(METHODS)), METHODS)
    axes.set_ylabel("utility, a quarter of the forget probability left")
    axes.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None, "Creator": None})


def main() -> None:
    """Runs, compares, prints and writes."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", type=Path, default=ROOT / "outputs", help="store and telemetry")
    parser.add_argument("--docs", type=Path, default=ROOT / "docs", help="table and figure")
    chosen = parser.parse_args()
    experiment = Experiment(chosen.output.resolve())
    cells, rates = runs(experiment)
    rows: list[dict[str, Any]] = experiment.done
    path = chosen.docs / "data" / "rectification.csv"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    first = grid(experiment, cells, rates)
    others(experiment, rates)
    with suppress(ModuleNotFoundError):
        draw(first, chosen.docs / "figures" / "rectification.svg")


if __name__ == "__main__":
    sys.exit(main())
