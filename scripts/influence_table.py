"""Edits beside their rivals: corrupted, retrained, edited and fine-tuned models in one table.

Runs one job per arm, all on the same target, and prints their scores in Markdown with what each
cost: seconds of its own stages, and passes over the training rows (a product with H counts as two
gradients).

    python scripts/influence_table.py --output FOLDER --arm edited "method=influence" \
        --arm fine-tuned "method=llmeraser/correct" -- benchmark=pocket_rec target.adapter=lora
"""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Iterable
from dataclasses import dataclass

from unlearn_runner.api import run
from unlearn_runner.report.cost import seconds
from unlearn_runner.report.run_folder import RunFolder

SCORES = ("test.hits", "test.ranked", "test.agreement", "forget.probability")
SCORES += ("corrected.probability",)
BEFORE = {"corrupted": "target", "retrained": "retain_model"}
"""What the table calls models that every run has beside its own."""


@dataclass(frozen=True)
class Line:
    """One model's row."""

    name: str
    run: RunFolder
    prefix: str
    seconds: float
    passes: float

    def cells(self, scores: Iterable[str]) -> list[str]:
        """Returns the row's cells."""
        found = [self._score(self.prefix + name) for name in scores]
        return [self.name, *found, f"{self.seconds:.0f}", f"{self.passes:.2g}"]

    def _score(self, name: str) -> str:
        scores = self.run.results["scores"]
        value, ends = scores.get(name), (scores.get(f"{name}_low"), scores.get(f"{name}_high"))
        if value is None:
            return "-"
        known = self.run.results.get("intervals", {}).get(name) or ends
        low, high = known
        return f"{value:.3f}" + (f" [{low:.3f}, {high:.3f}]" if None not in (low, high) else "")


def spent(found: RunFolder, labels: Iterable[str]) -> float:
    """Returns the seconds that a run's stages of some labels took when they were computed."""
    return sum(seconds(found, stage) or 0.0 for stage in found.stages if stage.name in labels)


def passes(found: RunFolder, trained: int) -> float:
    """Returns what an arm cost, in passes over the rows that the target was trained on."""
    facts = {s["name"]: s.get("facts", {}) for s in found.results["stages"]}
    if solved := facts.get("influence"):
        return solved["gradient_passes"] + 2 * solved["product_passes"]
    steps = max(line["step"] for line in found.lines if line.get("stage") == "unlearn")
    return steps * found.config["train"]["batch_size"] / trained


def table(lines: Iterable[Line], scores: Iterable[str]) -> str:
    """Returns the table in Markdown."""
    rows = [["", *scores, "seconds", "passes"], *(line.cells(scores) for line in lines)]
    rows.insert(1, ["---", *["---:"] * (len(rows[0]) - 1)])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def main() -> None:
    """Runs the arms, and prints."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", required=True)
    parser.add_argument("--arm", nargs=2, action="append", metavar=("NAME", "OVERRIDES"))
    parser.add_argument("--scores", nargs="+", default=SCORES)
    parser.add_argument("overrides", nargs="*")
    args = parser.parse_args()
    found: dict[str, RunFolder] = {}
    for name, own in args.arm:
        found[name] = run(
            f"output_dir={args.output}", f"name={name}", *args.overrides, *shlex.split(own)
        )
    first = next(iter(found.values()))
    stages = [stage for one in found.values() for stage in one.results["stages"]]
    trained = next(s["facts"]["n"] for s in stages if s["name"] == "influence")
    recipe = first.config["target"]["train"]
    epochs = (recipe["steps"] or 0) * recipe["batch_size"] / trained or float(recipe["epochs"])
    lines = [
        Line(name, first, f"{model}.", spent(first, (model, f"{model} adapter")), epochs)
        for name, model in BEFORE.items()
    ]
    lines += [
        Line(name, one, "", spent(one, ("influence", "unlearn")), passes(one, trained))
        for name, one in found.items()
    ]
    print(table(lines, args.scores), flush=True)


if __name__ == "__main__":
    main()
