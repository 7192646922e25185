"""The runs of `does_rectification_help.py`, and what each keeps where it has forgotten so much."""

from __future__ import annotations

import json
import math
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unlearn_runner.api import plan, run
from unlearn_runner.evaluation.metrics.evidence import Evidence
from unlearn_runner.evaluation.metrics.parts import Parts, divide
from unlearn_runner.pipeline.job import PlannedJob
from unlearn_runner.pipeline.stages.base import Stage
from unlearn_runner.pipeline.stages.evaluate import step_folder

VIEWS = ("forget", "retain", "real_authors", "world_facts")
COMMON = (
    *("benchmark.source.people=80", "benchmark.requests.forget10.view=forget10"),
    *("benchmark.view.retain.split=retain90", "benchmark.view.retain.limit=160"),
    *("benchmark.view.real_authors.limit=20", "benchmark.view.world_facts.limit=20"),
    *("~benchmark.metric.rouge_l", "~benchmark.metric.truth_ratio"),
    *("~benchmark.metric.forget_quality", "benchmark.metric.model_utility.parts=[probability]"),
    *(f"benchmark.view.{view}.probes=[logprobs]" for view in VIEWS),
    "evaluate.every=5",
)
METHODS = ("ga", "gd", "npo", "simnpo", "wga", "idk")
RECTIFIERS = ("none", "gru", "gru_update", "pcgrad", "sago", "pcd")
RATES = ("2e-4", "4e-4")
SEEDS = (0, 1, 2)
LEFT = (0.25, 0.5)
"""Of the target's forget probability: the levels."""
DRAWS = 10_000
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Cell:
    """A method and a rectifier, with what else is set."""

    method: str
    rectifier: str
    more: tuple[str, ...] = ()
    times: int = 1
    """How many times the plan's steps."""

    def words(self, rate: str, seed: int, steps: int) -> tuple[str, ...]:
        """Returns a run's overrides, beside those that all have."""
        # Gradient ascent alone does one pass per step where all others do two.
        passes = 2 if (self.method, self.rectifier) == ("ga", "none") else 1
        mine = (f"method={self.method}", f"rectifier={self.rectifier}", f"train.lr={rate}")
        return (*mine, f"train.steps={steps * passes * self.times}", f"seed={seed}", *self.more)


@dataclass(frozen=True)
class Curve:
    """A run's scores along its steps, row by row, of all people."""

    rows: Mapping[str, Floats]
    """Probability of the right answer by view; [steps, rows]."""

    def along(self, counts: Mapping[str, Floats]) -> dict[str, Floats]:
        """Returns forget probability, retain probability and utility; each [draws, steps].

        Args:
            counts: How often each row of a view counts; [draws, rows].
        """
        means = {
            view: counts[view] @ rows.T / counts[view].sum(1, keepdims=True)
            for view, rows in self.rows.items()
        }
        kept = np.stack([mean for view, mean in means.items() if view != "forget"])
        utility = len(kept) / (1 / kept).sum(0)
        return {"forget": means["forget"], "retain": means["retain"], "utility": utility}


def at_level(forget: Floats, kept: Floats, level: float) -> Floats:
    """Returns what is kept where the forget probability first is at a level; [draws], or NaN.

    Args:
        forget: Forget probability; [draws, steps].
        kept: What is kept; [draws, steps].
        level: Of the forget probability.
    """
    reached = forget <= level
    step = np.maximum(reached.argmax(1), 1)
    draw = np.arange(len(forget))
    before, after = forget[draw, step - 1], forget[draw, step]
    share = np.clip((before - level) / np.maximum(before - after, 1e-12), 0, 1)
    value = kept[draw, step - 1] + share * (kept[draw, step] - kept[draw, step - 1])
    return np.where(reached.any(1), value, np.nan)


@dataclass(eq=False)
class Experiment:
    """Runs, and their curves on both parts of the rows."""

    output: Path
    common: tuple[str, ...] = COMMON
    steps: int = 50
    done: list[dict[str, Any]] = field(default_factory=list)
    curves: dict[tuple[Cell, str, int], Curve] = field(default_factory=dict)

    @cache  # noqa: B019  one object lives as long as the command
    def job(self, words: tuple[str, ...]) -> PlannedJob:
        """Returns the planned run of some overrides."""
        return plan(*words, *self._folder)

    @property
    def _folder(self) -> tuple[str, ...]:
        # One thread: beside other work two wait for each other, and take ten times as long.
        where = (f"output_dir={self.output}", "parallel.threads=1")
        return (*where, "overwrite=true", "name=rectification")

    def words(self, cell: Cell, rate: str, seed: int) -> tuple[str, ...]:
        """Returns a run's overrides."""
        return (*self.common, *cell.words(rate, seed, self.steps))

    @property
    def first(self) -> PlannedJob:
        """A run that has rows and target in common with all."""
        return self.job(self.words(Cell("gd", "gru"), RATES[0], 0))

    @cache  # noqa: B019
    def counts(self, part: str, draws: int) -> dict[str, Floats]:
        """Returns how often rows of a part count: once each, or in samples of people."""
        scored = self.first.plan.scores["target"]
        parts: Parts = divide(scored.units, 0.5, 0)
        found = {}
        for view, owners in scored.units.items():
            chosen = (parts.a if part == "A" else parts.b)[view]
            each = np.zeros((max(draws, 1), len(owners)))
            people, who = np.unique([owners[row] for row in chosen], return_inverse=True)
            drawn = np.ones((1, len(people)))
            if draws:
                random = np.random.default_rng(zlib.crc32(people.tobytes()))
                even = np.full(len(people), 1 / len(people))
                drawn = random.multinomial(len(people), even, draws).astype(float)
            each[:, list(chosen)] = drawn[:, who]
            found[view] = each
        return found

    @cache  # noqa: B019
    def level(self, part: str, left: float) -> float:
        """Returns a share of the target's forget probability on a part."""
        target = _curve(self.first, [self.first.store.path(_stage(self.first, "target"))])
        return left * float(target.along(self.counts(part, 0))["forget"][0, 0])

    def curve(self, cell: Cell, rate: str, seed: int) -> Curve:
        """Runs where it has not been run, and returns the curve."""
        if (found := self.curves.get((cell, rate, seed))) is not None:
            return found
        words = self.words(cell, rate, seed)
        ran = run(*words, *self._folder)
        job = self.job(words)
        steps = job.run.evaluate.steps(job.run.train, len(job.plan.inputs.rowsets.splits.forget))
        kept = job.store.path(job.plan.unlearn)
        folders = [kept / step_folder(step) for step in steps]
        folders = [folder for folder in folders if folder.is_dir()]
        target = job.store.path(_stage(job, "target"))
        if ran.status == "completed":
            folders.append(job.store.path(_stage(job, "unlearned")))
        found = self.curves[cell, rate, seed] = _curve(job, [target, *folders])
        self.done.append(self.facts(cell, rate, seed, ran.status, found, kept))
        print(*self.done[-1].values(), flush=True)
        return found

    def kept(self, curve: Curve, part: str, what: str, left: float, draws: int = 0) -> Floats:
        """Returns what a run keeps at a level of a part; [1] or [draws]."""
        along = curve.along(self.counts(part, draws))
        return at_level(along["forget"], along[what], self.level(part, left))

    def facts(
        self, cell: Cell, rate: str, seed: int, status: str, curve: Curve, folder: Path
    ) -> dict[str, Any]:
        """Returns a row of the table of runs."""
        lines = (folder / "metrics.jsonl").read_text("utf-8").splitlines()
        steps = [line for line in map(json.loads, lines) if "grad_norm" in line]
        at = {
            f"{part}_{what}_{left:g}": round(float(self.kept(curve, part, what, left)[0]), 5)
            for part in "AB"
            for what in ("utility", "retain")
            for left in LEFT
        }
        least = {
            f"{part}_forget_least": round(
                float(curve.along(self.counts(part, 0))["forget"].min()), 5
            )
            for part in "AB"
        }
        return {
            "method": cell.method,
            "rectifier": cell.rectifier,
            "more": " ".join(cell.more),
            "times": cell.times,
            "lr": rate,
            "seed": seed,
            "status": status,
            **at,
            **least,
            "conflict": _mean(steps, "conflict"),
            "surviving": _mean(steps, "surviving_norm"),
        }

    def chosen(self, cell: Cell) -> str:
        """Returns the learning rate with the highest utility at the level on part A, seed 0."""
        curves = {rate: self.curve(cell, rate, 0) for rate in RATES}
        worth = {r: float(self.kept(c, "A", "utility", LEFT[0])[0]) for r, c in curves.items()}
        if all(map(math.isnan, worth.values())):
            counts = self.counts("A", 0)
            return min(RATES, key=lambda r: float(curves[r].along(counts)["forget"].min()))
        return max(RATES, key=lambda r: -1.0 if math.isnan(worth[r]) else worth[r])


def _stage(job: PlannedJob, model: str) -> Stage:
    stage = job.plan.scores[model].evaluated
    assert isinstance(stage, Stage)
    return stage


def _curve(job: PlannedJob, folders: Iterable[Path]) -> Curve:
    scored = job.plan.scores["target"]
    found: dict[str, list[Floats]] = {}
    for folder in folders:
        for view in Evidence.load(folder, scored.views).views.values():
            rows = scored.metrics["probability"].of_rows(view)
            assert rows is not None
            found.setdefault(view.name, []).append(rows)
    return Curve({name: np.stack(rows) for name, rows in found.items()})


def _mean(steps: Sequence[Mapping[str, Any]], name: str) -> float | str:
    values = [float(step[name]) for step in steps if step.get(name) is not None]
    return round(sum(values) / len(values), 4) if values else ""
