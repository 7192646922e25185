"""What forgetting the extraction challenge takes and costs, by method, adapter and rank.

    python scripts/tdec_table.py outputs/sweeps/tdec

Plan and words: docs/loku.md. Reads the runs of one or more sweeps; writes docs/data/tdec.csv (a row
per run) and, with the extra `figures`, docs/figures/tdec.svg; prints the page's table and whether
each of the paper's orderings holds.
"""

from __future__ import annotations

import argparse
import csv
import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import mean

import yaml

ROOT = Path(__file__).resolve().parents[1]
LIMIT = 21
"""Epochs that a run counts as which is not below both thresholds after its last one."""
RATE = 2e-3
"""The plan's; others stand in the table, and in no ordering and no figure."""
SCORES = ("forget.ma", "forget.el_10", "retain.perplexity", "heldout.perplexity")
TICKS = (1.5, 2, 3, 5, 10, 20, 40)
WAYS = ("ihl+fila", "ihl+pissa", "ihl+lora", "gd+lora", "ga+lora")


@dataclass(frozen=True)
class Run:
    """One finished run."""

    way: str
    rank: int
    lr: float
    seed: int
    status: str
    forgotten: bool
    epochs: int
    ma: float
    el_10: float
    retain_perplexity: float
    heldout_perplexity: float


def read(folder: Path) -> Run:
    """Returns what a run folder holds; its name begins as a sweep names it."""
    results = json.loads((folder / "results.json").read_text("utf-8"))
    config = yaml.safe_load((folder / "config.yaml").read_text("utf-8"))
    _, method, _, adapter = folder.name.partition(",")[0].split("-")
    scores = [results["scores"].get(name) for name in SCORES]
    numbers = [float("nan") if score is None else round(score, 5) for score in scores]
    stopped = results.get("stopped")
    return Run(
        f"{method}+{adapter}",
        config["adapter"]["rank"],
        config["train"]["lr"],
        config["seed"],
        results["status"],
        stopped is not None,
        LIMIT if stopped is None else round(stopped["epochs"]),
        *numbers,
    )


def table(runs: Sequence[Run]) -> None:
    """Prints means over seeds, with their least and most."""
    print("| | rank | lr | seeds | epochs | MA | EL_10 | kept WikiText | known WikiText |")
    print("|---|---:|---:|---:|---:|---:|---:|---:|---:|")
    cells = dict.fromkeys((run.way, run.rank, run.lr) for run in runs)
    for cell in sorted(cells, key=lambda c: (WAYS.index(c[0]), c[2], c[1])):
        mine = [run for run in runs if (run.way, run.rank, run.lr) == cell]
        epochs = _spread([run.epochs for run in mine], "{:.1f}")
        short = sum(not run.forgotten for run in mine)
        epochs += f"; {short} not in time" if short else ""
        ma, el = (mean(getattr(run, n) for run in mine) for n in ("ma", "el_10"))
        kept = _spread([run.retain_perplexity for run in mine], "{:.4g}")
        known = _spread([run.heldout_perplexity for run in mine], "{:.4g}")
        way = f"`{cell[0].replace('+', '`+`')}`"
        start = f"| {way} | {cell[1]} | {cell[2]:g} | {len(mine)} | {epochs} |"
        print(f"{start} {ma:.3f} | {el:.4f} | {kept} | {known} |")


def _spread(values: Sequence[float], form: str) -> str:
    middle = form.format(mean(values))
    if min(values) == max(values):
        return middle
    ends = (f"{end:g}" if isinstance(end, int) else form.format(end) for end in _ends(values))
    return f"{middle} ({' to '.join(ends)})"


def _ends(values: Sequence[float]) -> tuple[float, float]:
    return min(values), max(values)


def orderings(runs: Sequence[Run]) -> None:
    """Prints, rank by rank, whether the plan's two orderings hold."""

    def at(way: str, rank: int) -> list[Run]:
        return [run for run in runs if (run.way, run.rank) == (way, rank)]

    for rank in sorted({run.rank for run in runs}):
        for other in ("gd+lora", "ga+lora"):
            mine, theirs = at("ihl+lora", rank), at(other, rank)
            if not mine or not theirs:
                continue
            most = max(run.heldout_perplexity for run in mine)
            clear = most < min(run.heldout_perplexity for run in theirs)
            short = sum(not run.forgotten for run in (*mine, *theirs))
            verdict = f"{short} not forgotten" if short else "holds" if clear else "does not hold"
            print(f"rank {rank}: ihl+lora keeps more than {other}: {verdict}")
        for other in ("ihl+lora", "ihl+pissa"):
            pairs = [
                (mine, theirs)
                for mine in at("ihl+fila", rank)
                for theirs in at(other, rank)
                if theirs.seed == mine.seed
            ]
            fewer = sum(mine.epochs < theirs.epochs for mine, theirs in pairs)
            known = sum(
                mine.heldout_perplexity < theirs.heldout_perplexity for mine, theirs in pairs
            )
            print(
                f"rank {rank}: ihl+fila needs fewer epochs than {other}: {fewer} of {len(pairs)}; "
                f"known WikiText is lower: {known}"
            )


def draw(runs: Sequence[Run], path: Path) -> None:
    """Draws epochs to forget and the perplexity of known text, rank by rank."""
    import matplotlib as mpl  # pyright: ignore[reportMissingImports]

    mpl.use("svg")
    mpl.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "tdec", "font.size": 9})
    from matplotlib import pyplot as plt  # pyright: ignore[reportMissingImports]

    ranks = sorted({run.rank for run in runs})
    figure, axes = plt.subplots(1, 2, figsize=(8.6, 3.4))
    titles = ("epochs to forget", "perplexity of known WikiText")
    for panel, name, title in zip(axes, ("epochs", "heldout_perplexity"), titles, strict=True):
        for place, way in enumerate(WAYS):
            mine = [run for run in runs if run.way == way]
            there = [rank for rank in ranks if any(run.rank == rank for run in mine)]
            means = [mean(getattr(r, name) for r in mine if r.rank == rank) for rank in there]
            at = [ranks.index(rank) + (place - 2) * 0.06 for rank in there]
            panel.plot(at, means, "ovsd^"[place], ls="-", color=f"C{place}", ms=5, label=way)
            dots = [(ranks.index(r.rank) + (place - 2) * 0.06, getattr(r, name)) for r in mine]
            panel.plot(*zip(*dots, strict=True), ".", color=f"C{place}", ms=3, alpha=0.6)
        panel.set_xticks(range(len(ranks)), map(str, ranks))
        panel.set_xlabel("rank")
        panel.set_title(title, fontsize=9)
        panel.spines[["top", "right"]].set_visible(False)
    axes[1].set_yscale("log")
    axes[1].set_yticks(TICKS, [f"{tick:g}" for tick in TICKS])
    axes[1].minorticks_off()
    axes[0].set_ylim(bottom=0)
    axes[0].legend(frameon=False)
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None, "Creator": None})


def main() -> None:
    """Reads, prints and writes."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("sweeps", type=Path, nargs="+", help="folders outputs/sweeps/NAME")
    parser.add_argument("--docs", type=Path, default=ROOT / "docs", help="runs and figure")
    parser.add_argument("--table-only", action="store_true", help="print, and write nothing")
    chosen = parser.parse_args()
    found = [read(path.parent) for sweep in chosen.sweeps for path in sweep.glob("*/results.json")]
    runs = sorted(found, key=lambda r: (WAYS.index(r.way), r.rank, r.lr, r.seed))
    table(runs)
    planned = [run for run in runs if run.lr == RATE]
    orderings(planned)
    if chosen.table_only:
        return
    with (chosen.docs / "data" / "tdec.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(asdict(runs[0])), lineterminator="\n")
        writer.writeheader()
        writer.writerows(map(asdict, runs))
    with suppress(ModuleNotFoundError):
        draw(planned, chosen.docs / "figures" / "tdec.svg")


if __name__ == "__main__":
    main()
