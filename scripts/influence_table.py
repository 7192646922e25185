"""Edits beside their rivals: corrupted, retrained, edited and other models in one table.

Runs one job per arm, all on the same target (of method=sisa one per shard, whose probabilities of
each token it takes the mean of), and prints their scores in Markdown with what each cost: seconds
of its own stages, and passes over the training rows. A forward and a backward pass over a row count
as one, a product with H as two, a forward pass alone as a third.

    python scripts/influence_table.py --output FOLDER --arm edited "method=influence" \
        --arm fine-tuned "method=llmeraser/correct" -- benchmark=pocket_rec target.adapter=lora
"""

from __future__ import annotations

import argparse
import csv
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from pandas import read_parquet

from unlearn_runner.api import plan, run
from unlearn_runner.evaluation.metrics.base import compute
from unlearn_runner.evaluation.metrics.bootstrap import intervals
from unlearn_runner.evaluation.metrics.evidence import Evidence, Record, ViewEvidence
from unlearn_runner.evaluation.metrics.recommendation import wilson
from unlearn_runner.evaluation.schema import View, evidence_file
from unlearn_runner.pipeline.job import PlannedJob
from unlearn_runner.report.cost import seconds
from unlearn_runner.report.run_folder import RunFolder

SCORES = ("test.hits", "test.ranked", "test.agreement", "forget.probability")
SCORES += ("corrected.probability",)
BEFORE = {"corrupted": "target", "retrained": "retain_model"}
"""What the table calls models that every run has beside its own."""
CERTIFICATE = ("gradient_over_b", "residual", "residual_held", "residual_undamped", "curvature")
CERTIFICATE += ("damping_raised", "condition", "iterations", "predicted_change")
FORWARD = 1 / 3
"""Of a pass: a backward pass takes two products with each weight, a forward pass one."""
Scored = Mapping[str, float | None]
Ends = Mapping[str, Sequence[float] | None]


@dataclass(frozen=True)
class Line:
    """One model's row."""

    name: str
    scores: Scored
    ends: Ends
    seconds: float
    passes: float
    solved: Mapping[str, Any] = field(default_factory=dict)
    """Certificate of the solution, and the scale it was added with."""

    def cells(self, scores: Iterable[str]) -> list[str]:
        """Returns the row's cells."""
        return [self.name, *map(self._cell, scores), f"{self.seconds:.0f}", f"{self.passes:.2g}"]

    def _cell(self, name: str) -> str:
        value, ends = self.scores.get(name), self.ends.get(name)
        if value is None:
            return "-"
        return f"{value:.3f}" + (f" [{ends[0]:.3f}, {ends[1]:.3f}]" if ends else "")

    def record(self, scores: Iterable[str]) -> dict[str, Any]:
        """Returns the row for a file."""
        found: dict[str, Any] = {"model": self.name}
        for name in scores:
            low, high = self.ends.get(name) or (None, None)
            found |= {name: self.scores.get(name), f"{name}_low": low, f"{name}_high": high}
        found |= {"seconds": self.seconds, "passes": self.passes}
        found |= {name: self.solved.get(name) for name in ("scale", *CERTIFICATE)}
        return {k: float(f"{v:.5g}") if isinstance(v, float) else v for k, v in found.items()}


@dataclass(frozen=True)
class Arm:
    """A job and its finished run; of method=sisa one of several."""

    job: PlannedJob
    run: RunFolder

    @property
    def rows(self) -> int:
        """Rows that the target was trained on."""
        return self.trained_on("target")

    def trained_on(self, label: str) -> int:
        """Returns the number of rows of a fine-tune, an adapter's or of all weights."""
        labels, stages = (label, f"{label} adapter"), self.job.plan.stages
        return next(len(s.rows) for s in stages if s.label in labels and hasattr(s, "rows"))

    @property
    def facts(self) -> dict[str, Any]:
        """What the stages say of themselves, by stage."""
        return {stage["name"]: stage.get("facts", {}) for stage in self.run.results["stages"]}

    def spent(self, *labels: str) -> float:
        """Returns the seconds that stages of some labels took when they were computed."""
        return sum(seconds(self.run, s) or 0.0 for s in self.run.stages if s.name in labels)

    def retrained(self, label: str) -> float:
        """Returns the passes of a fine-tune by the target's recipe."""
        recipe = self.job.run.target.train
        return recipe.num_steps(self.trained_on(label)) * recipe.batch_size / self.rows

    @property
    def passes(self) -> float:
        """What it cost."""
        method: Any = self.job.run.method
        splits = self.job.plan.inputs.rowsets.splits
        if method.solves:
            solved = self.facts["influence"]
            chosen = len(self.facts["unlearn"]["validation_nll"])
            looked = chosen and len(self.job.plan.inputs.rowsets.views["validation"][1])
            tried = FORWARD * chosen * looked / self.rows
            return solved["gradient_passes"] + 2 * solved["product_passes"] + tried
        if method.retrains:
            wished = splits.wished_in_place
            places = method.places(len(wished), self.job.run.target.seed)
            asked = any(wished[i] != splits.full[i] for i in places)
            return self.retrained("unlearn") if asked else 0.0
        rows = self.job.run.train.num_steps(len(splits.forget)) * self.job.run.train.batch_size
        return rows * len(method.terms()) / self.rows

    @property
    def score(self) -> Any:
        """The stage that scores its model."""
        return self.job.plan.scores["unlearned"]

    @property
    def answers(self) -> Path:
        """Where its model's evidence is."""
        return self.job.store.path(self.score.evaluated)


def averaged(folders: Sequence[Path], views: Mapping[str, View]) -> Evidence:
    """Returns evidence of the mixture whose probability of each next token is the models' mean.

    Of teacher-forced answers alone: what the mixture would generate is not known from theirs.
    """
    found = {}
    for name, view in views.items():
        frames = [read_parquet(folder / evidence_file(name, "logprobs")) for folder in folders]
        columns = [frame.sort_values(["row", "role", "answer_index"]) for frame in frames]
        keys = zip(columns[0]["row"], columns[0]["role"], strict=True)
        losses: dict[str, list[list[float]]] = {}
        tokens = zip(*(column["logprob"] for column in columns), strict=True)
        for (row, role), models in zip(keys, tokens, strict=True):
            logprobs = np.stack(models).astype(float)
            mixed = np.logaddexp.reduce(logprobs, axis=0) - np.log(len(models))
            of_role = losses.setdefault(role, [])
            of_role += [[] for _ in range(row + 1 - len(of_role))]
            of_role[row].append(-float(mixed.mean()))
        found[name] = ViewEvidence(name, view.goal, view.probability, Record(losses))
    return Evidence(found)


def interval_ends(arm: Arm, scores: Scored, known: Ends) -> dict[str, Sequence[float] | None]:
    """Returns intervals by score: Wilson's of shares of records, else those of the bootstrap.

    A record counts once, however often candidates were drawn for it, which the bootstrap does not
    know.
    """
    found, draws = dict(known), getattr(arm.job.run.benchmark, "draws", None)
    for name, value in scores.items():
        view, _, metric = name.rpartition(".")
        low, high = scores.get(f"{name}_low"), scores.get(f"{name}_high")
        if low is not None and high is not None:
            found[name] = (low, high)
        elif draws and value is not None and metric in ("ranked", "agreement"):
            records = len(arm.job.plan.inputs.rowsets.views[view.split(".")[-1]][1]) / draws
            found[name] = wilson(value * records, records)
    return found


def before(arm: Arm, name: str) -> Line:
    """Returns the row of a model that every run has."""
    prefix, results = f"{BEFORE[name]}.", arm.run.results
    scores = _below(prefix, results["scores"])
    ends = interval_ends(arm, scores, _below(prefix, results.get("intervals", {})))
    label = BEFORE[name]
    return Line(name, scores, ends, arm.spent(label, f"{label} adapter"), arm.retrained(label))


def _below(prefix: str, found: Mapping[str, Any]) -> dict[str, Any]:
    return {k.removeprefix(prefix): v for k, v in found.items() if k.startswith(prefix)}


def own(name: str, arms: Sequence[Arm]) -> Line:
    """Returns the row of an arm's model, or of the mean of several."""
    first, spent = arms[0], sum(arm.spent("influence", "unlearn") for arm in arms)
    passes = sum(arm.passes for arm in arms)
    if len(arms) > 1:
        stage = first.score
        evidence = averaged([arm.answers for arm in arms], stage.views)
        retain_model = stage.retain_evidence(first.job.store.path)
        scores = compute(evidence, retain_model, stage.metrics)
        given = (evidence, stage.units, stage.metrics, scores)
        known = intervals(*given, retain_model=retain_model)
        return Line(name, scores, interval_ends(first, scores, known), spent, passes)
    scores, known = first.run.results["scores"], first.run.results.get("intervals", {})
    facts = first.facts
    solved = {**facts.get("influence", {}), "scale": facts.get("unlearn", {}).get("scale")}
    return Line(name, scores, interval_ends(first, scores, known), spent, passes, solved)


def finished(name: str, overrides: Sequence[str]) -> list[Arm]:
    """Runs an arm's jobs."""
    method: Any = plan(*overrides, f"name={name}").run.method
    jobs = [(*overrides, f"name={name}")]
    if method.retrains:
        numbers = range(method.shards)
        jobs = [(*overrides, f"name={name}-{i}", f"method.shard={i}") for i in numbers]
    return [Arm(plan(*job), run(*job)) for job in jobs]


def table(lines: Iterable[Sequence[str]]) -> str:
    """Returns a table in Markdown, its first line the head."""
    rows = list(lines)
    rows.insert(1, ["---", *["---:"] * (len(rows[0]) - 1)])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def certificates(lines: Iterable[Line]) -> list[list[str]]:
    """Returns the cells of the certificates, one line per edit."""
    names = ("scale", *CERTIFICATE)
    found = [line for line in lines if line.solved.get("residual") is not None]
    return [
        ["", *names],
        *(
            [line.name, *("-" if (x := line.solved[n]) is None else f"{x:.3g}" for n in names)]
            for line in found
        ),
    ]


def main() -> None:
    """Runs the arms, prints, and writes a file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", required=True)
    parser.add_argument("--csv", help="file to add the rows to, each with --label")
    parser.add_argument("--label", default="")
    parser.add_argument("--arm", nargs=2, action="append", metavar=("NAME", "OVERRIDES"))
    parser.add_argument("--scores", nargs="+", default=SCORES)
    parser.add_argument("overrides", nargs="*")
    args = parser.parse_args()
    shared = (f"output_dir={args.output}", *args.overrides)
    prefix = f"{args.label}-" if args.label else ""
    found = {
        name: finished(prefix + name, (*shared, *shlex.split(more))) for name, more in args.arm
    }
    first = next(iter(found.values()))[0]
    lines = [before(first, name) for name in BEFORE]
    lines += [own(name, arms) for name, arms in found.items()]
    print(
        table([["", *args.scores, "seconds", "passes"], *(li.cells(args.scores) for li in lines)])
    )
    print("\n" + table(certificates(lines)), flush=True)
    if args.csv:
        records = [{"label": args.label, **line.record(args.scores)} for line in lines]
        with Path(args.csv).open("a", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, records[0], lineterminator="\n")
            if not file.tell():
                writer.writeheader()
            writer.writerows(records)


if __name__ == "__main__":
    main()
