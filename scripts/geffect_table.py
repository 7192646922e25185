"""What a run has kept, and what a step costs, where as much has been forgotten: docs/g-effect.md.

    python scripts/geffect_table.py RUN... [--at 0.4 0.75 2]

Reads `geffect.json` of each run folder. Between measured models all is taken as straight over the
forget NLL, at its first crossing. Runs whose names differ in a last `-0`, `-1`, ... are seeds of
one setting: mean, least and most.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from statistics import mean
from typing import Any

SEED = re.compile(r"-\d+$")


def steps(run: Path) -> list[dict[str, Any]]:
    """Returns what was measured of a run, in the order of its steps."""
    return json.loads((run / "geffect.json").read_text("utf-8"))["steps"]


def at(found: Sequence[dict[str, Any]], forgotten: float, name: str) -> float | None:
    """Returns a column where the forget NLL first passes `forgotten`; none if it never does."""
    for before, after in pairwise(found):
        if before["risk_u"] <= forgotten < after["risk_u"]:
            share = (forgotten - before["risk_u"]) / (after["risk_u"] - before["risk_u"])
            return before[name] + share * (after[name] - before[name])
    return None


def ratio(found: Sequence[dict[str, Any]], forgotten: float) -> float | None:
    """Returns e_r / e_u there: what a step costs for what it does."""
    both = [at(found, forgotten, name) for name in ("e_r", "e_u")]
    return None if None in both or not both[1] else both[0] / both[1]  # type: ignore[operator]


def shown(values: Sequence[float | None]) -> str:
    """Returns mean and range of the seeds that got there."""
    there = [value for value in values if value is not None]
    if not there:
        return "never"
    text = f"{mean(there):.3f}"
    if len(there) > 1:
        text += f" ({min(there):.3f} to {max(there):.3f})"
    return text + (f", {len(there)} of {len(values)}" if len(there) < len(values) else "")


def main() -> None:
    """Prints a line per setting."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", type=Path, nargs="+", help="folders outputs/runs/NAME")
    parser.add_argument("--at", type=float, nargs="+", default=[0.4, 0.75, 2.0], help="forget NLL")
    chosen = parser.parse_args()
    settings: dict[str, list[Path]] = {}
    for run in chosen.runs:
        settings.setdefault(SEED.sub("", run.name), []).append(run)
    heads = [f"retain NLL at {value:g}" for value in chosen.at] + [f"e_r/e_u at {chosen.at[1]:g}"]
    print("| | " + " | ".join([*heads, "forget NLL at the end", "retain NLL"]) + " |")
    print("|---|" + "---:|" * (len(heads) + 2))
    for name, runs in settings.items():
        found = [steps(run) for run in runs]
        cells = [shown([at(each, value, "risk_r") for each in found]) for value in chosen.at]
        cells.append(shown([ratio(each, chosen.at[1]) for each in found]))
        cells += [shown([each[-1][risk] for each in found]) for risk in ("risk_u", "risk_r")]
        print(f"| {name} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
