"""Comparison of runs where they have forgotten equally much, on each run's own curve over steps.

Runs end at unequal forgetting, where a difference in utility is no difference of methods.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from itertools import pairwise, product

from unlearn_runner.evaluation.metrics.scores import SEEDS
from unlearn_runner.report.compare import Comparison, Setting
from unlearn_runner.report.means import P_VALUES, Mean, mean_of
from unlearn_runner.report.run_folder import RunFolder
from unlearn_runner.report.tables import NOTHING, Cell, Column, Table, cell, setting_columns
from unlearn_runner.report.telemetry import scored
from unlearn_runner.utils.text import format_score

SHARES = (0.5, 0.75)
"""How far from the target to the retain model runs are compared: fixed before any run is seen."""
NONE = "none"
"""The rectifier that steps with a gradient as it is."""


def kept_at(curve: Sequence[tuple[float, float]], level: float) -> float | None:
    """Returns what a curve keeps where it first is down at a level, linearly between its points.

    At the level itself, also where a run that goes on would forget more and keep more: what was
    forgotten is equal, and no run is read at the best of many points.

    Args:
        curve: Pairs of what is forgotten, less is more forgotten, and what is kept, in order.
        level: Of the first of each pair.

    Returns:
        None where it never gets there: a curve is not continued beyond its ends.
    """
    for (x, y), (x_next, y_next) in pairwise(curve):
        if x_next <= level < x:
            return y + (level - x) / (x_next - x) * (y_next - y)
    return curve[0][1] if curve and curve[0][0] == level else None


def trajectory(run: RunFolder, forget: str, kept: str) -> list[tuple[float, float]]:
    """Returns two scores of a run at each scored step, from the target before to the end."""
    xs, ys = dict(scored(run, forget)), dict(scored(run, kept))
    return [(xs[step], ys[step]) for step in xs if step in ys]


@dataclass(frozen=True)
class EqualForgetting:
    """Scores of settings at equal forgetting, and what rectification changes there."""

    compared: Comparison

    @property
    def forget(self) -> str:
        """The score of what is forgotten."""
        return self.compared.axes.forget

    @cached_property
    def kept(self) -> list[str]:
        """The scores of what is kept: utility, and on retain rows what is forgotten on others."""
        names = (self.compared.axes.utility, f"retain.{self.forget.rpartition('.')[2]}")
        return [name for name in names if name in self.compared.metrics and name not in P_VALUES]

    @cached_property
    def levels(self) -> list[float]:
        """Forgetting at which runs are compared: `SHARES` of the way to the retain model.

        Two decimals; only those that a run reaches. A retain model without that score counts as 0.
        """
        before, after = (self._anchor(model) for model in ("target", "retain_model"))
        after = after or 0.0
        if before is None or before <= after or not self.kept or self.forget in P_VALUES:
            return []
        found = [round(before + share * (after - before), 2) for share in SHARES]
        reached = (
            any(self.mean(setting, level, self.kept[0]) for setting in self.compared.settings)
            for level in found
        )
        return [level for level, true in zip(found, reached, strict=True) if true]

    def _anchor(self, model: str) -> float | None:
        scores = (run.results.get("scores", {}) for run in self.compared.runs)
        found = [s.get(f"{model}.{self.forget}") for s in scores]
        known = [value for value in found if value is not None]
        return math.fsum(known) / len(known) if known else None

    def _value(self, level: float, kept: str, run: RunFolder) -> float | None:
        return kept_at(trajectory(run, self.forget, kept), level)

    def mean(self, setting: Setting, level: float, kept: str) -> Mean | None:
        """Returns a score's mean over the independent runs that have forgotten so much."""
        return mean_of(kept, (self._value(level, kept, run) for run in setting.independent))

    def difference(self, one: Setting, other: Setting, level: float, kept: str) -> Mean | None:
        """Returns the mean difference of two settings, runs of equal seeds paired."""
        return one.difference(partial(self._value, level, kept), other)

    @cached_property
    def pairs(self) -> list[tuple[Setting, Setting]]:
        """Settings that differ in the rectifier alone: without one, and with one."""
        keys = [k for run in self.compared.runs for k in run.settings if k.startswith("rectifier.")]
        found = []
        for runs in self.compared.groups((*SEEDS, *keys)):
            numbers = {run.number for run in runs}
            mine = [s for s in self.compared.settings if s.first.number in numbers]
            plain = [s for s in mine if s.first.choice("rectifier") == NONE]
            found += [(p, s) for p in plain for s in mine if s not in plain]
        return found

    def table(self) -> Table | None:
        """Returns one row per setting with what it keeps at each level; none without curves."""
        compared, levels = self.compared, self.levels
        if not levels:
            return None
        names, start = setting_columns(compared)
        at = [(level, kept) for level in levels for kept in self.kept]
        columns = [*names, Column("n", "n", "number")]
        columns += [self._column(f"{kept} at {level:.2f}", kept) for level, kept in at]
        rows = []
        for setting in compared.settings:
            found = [self.mean(setting, level, kept) for level, kept in at]
            if any(scored(run, self.forget) for run in setting.runs):
                n = max((mean.n for mean in found if mean), default=0)
                rows.append([*start(setting.first), cell(n), *map(_shown, found)])
        return Table("Equal forgetting", columns, rows)

    def rectification(self) -> Table | None:
        """Returns what each rectifier changed at each level: without, with, and the difference."""
        rows = []
        names, start = setting_columns(self.compared)
        for level in self.levels:
            for (plain, rectified), kept in product(self.pairs, self.kept):
                change = self.difference(rectified, plain, level, kept)
                means = (self.mean(setting, level, kept) for setting in (plain, rectified))
                row = [*start(rectified.first), cell(level, "{:.2f}".format), cell(kept)]
                row += [cell(mean and mean.value, format_score) for mean in means]
                rows.append([*row, _shown(change, "+"), cell(change.n if change else 0)])
        if not rows:
            return None
        varied = [len({row[i].text for row in rows}) > 1 for i, _ in enumerate(names)]
        columns = [
            replace(name, main=varies or name.key == "rectifier")
            for name, varies in zip(names, varied, strict=True)
        ]
        columns += [Column(self.forget, self.forget, "number"), Column("kept", "kept")]
        columns += [Column(name, name, "number") for name in ("without", "with", "change", "n")]
        return Table("Rectification", columns, rows)

    def _column(self, name: str, kept: str) -> Column:
        return Column(name, name, "number", self.compared.better(kept))


def _shown(mean: Mean | None, sign: str = "") -> Cell:
    if mean is None:
        return NOTHING
    return Cell(mean.value, f"{sign if mean.value > 0 else ''}{mean}")
