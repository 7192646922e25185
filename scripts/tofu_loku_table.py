"""Tables of docs/loku.md from the nine sweeps of `scripts/tofu_loku.sh`.

    python scripts/tofu_loku_table.py [outputs/sweeps]

Writes docs/data/loku_tofu.csv (a row per trial) and, with the extra `figures`,
docs/figures/loku-tofu.svg; prints what was selected, and by rank what each adapter keeps.
"""

from __future__ import annotations

import csv
import json
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
FORGETS = ("forget01", "forget05", "forget10")
WAYS = {"ihl-fila": "ihl + fila", "gd-lora": "gd + lora", "gd": "gd, all weights"}
UTILITY, FORGET = "model_utility", "forget.probability"


def trials(folder: Path) -> list[dict[str, Any]]:
    """Returns every trial of a sweep: axes, what selection saw of it, scores of all rows."""
    chosen = json.loads((folder / "selection.json").read_text("utf-8"))
    found = []
    for setting in chosen["settings"]:
        (job,) = setting["jobs"]
        results = json.loads((folder / job / "results.json").read_text("utf-8"))
        scores = results["scores"]
        found.append(
            {
                "forget": folder.name.partition("-")[0],
                "way": folder.name.partition("-")[2],
                "rank": setting["axes"].get("adapter.rank", ""),
                "lr": setting["axes"]["train.lr"],
                "validation_forget": _rounded(setting["value"]),
                "validation_utility_kept": _rounded(setting["kept"]),
                "could_win": setting["could_win"],
                "forget_probability": _rounded(scores[FORGET]),
                "utility": _rounded(scores[UTILITY]),
                "target_utility": _rounded(scores[f"target.{UTILITY}"]),
                "target_forget_probability": _rounded(scores[f"target.{FORGET}"]),
            }
        )
    return found


def selected(folder: Path) -> dict[str, Any] | None:
    """Returns axes and test scores of a sweep's choice, or none where nothing could win."""
    chosen = json.loads((folder / "selection.json").read_text("utf-8"))["selected"]
    if chosen is None:
        return None
    test = {name: parts["test"][0] for name, parts in chosen["scores"].items()}
    return {"axes": chosen["axes"], **test}


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 5)


def print_selected(sweeps: Path) -> None:
    """Prints what each way's choice comes to on the test part."""
    print("| | selected | forget probability | retain probability | utility |")
    print("|---|---|---:|---:|---:|")
    for forget in FORGETS:
        for way, words in WAYS.items():
            found = selected(sweeps / f"{forget}-{way}")
            if found is None:
                print(f"| {forget}, {words} | nothing keeps 0.9 of the utility | | | |")
                continue
            axes = ", ".join(f"{n.split('.')[-1]} {v}" for n, v in found["axes"].items())
            numbers = [found[name] for name in (FORGET, "retain.probability", UTILITY)]
            print(
                f"| {forget}, {words} | {axes} | " + " | ".join(f"{n:.3f}" for n in numbers) + " |"
            )


def print_ranks(rows: list[dict[str, Any]]) -> None:
    """Prints forget probability and utility of all rows at the lower rate of each rank."""
    print("\n| rank, rate 1e-3 | " + " | ".join(FORGETS) + " |")
    print("|---|" + "---|" * len(FORGETS))
    for way in ("ihl-fila", "gd-lora"):
        for rank in ("4", "8", "16", "32"):
            cells = []
            for forget in FORGETS:
                of = [r for r in rows if (r["forget"], r["way"], r["rank"]) == (forget, way, rank)]
                (row,) = [r for r in of if float(r["lr"]) == 1e-3]
                cells.append(f"{row['forget_probability']:.3f} / {row['utility']:.3f}")
            print(f"| {WAYS[way]}, {rank} | " + " | ".join(cells) + " |")


def draw(rows: list[dict[str, Any]], path: Path) -> None:
    """Draws every trial: what is left of the forgotten against utility."""
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "loku-tofu", "font.size": 9})
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 3, figsize=(10, 3.4), sharey=True, layout="constrained")
    for axis, forget in zip(axes, FORGETS, strict=True):
        for way, mark in zip(WAYS, ("o", "s", "x"), strict=True):
            of = [r for r in rows if (r["forget"], r["way"]) == (forget, way)]
            points = [(max(r["forget_probability"], 1e-4), r["utility"] or 0.0) for r in of]
            axis.plot(*zip(*points, strict=True), mark, label=WAYS[way], alpha=0.8)
        axis.axhline(0.9 * rows[0]["target_utility"], color="0.7", lw=1, zorder=0)
        axis.set(xscale="log", xlabel="forget probability", title=forget)
    axes[0].set_ylabel("utility (line: 0.9 of the target's)")
    axes[0].legend(frameon=False, fontsize=8)
    figure.savefig(path, metadata={"Date": None, "Creator": None})


def main() -> None:
    """Reads the sweeps, writes the table and the figure, prints what the page shows."""
    sweeps = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "outputs" / "sweeps"
    rows = [row for f in FORGETS for way in WAYS for row in trials(sweeps / f"{f}-{way}")]
    with (ROOT / "docs/data/loku_tofu.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    with suppress(ImportError):
        draw(rows, ROOT / "docs/figures/loku-tofu.svg")
    print_selected(sweeps)
    print_ranks(rows)


if __name__ == "__main__":
    main()
