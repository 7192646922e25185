"""Comparison of runs: what tells them apart, which belong together, which dominate which."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal

from unlearn_runner.evaluation.metrics.scores import (
    SEEDS,
    Directions,
    collapsed,
    interval,
    lower,
    sort_metrics,
)
from unlearn_runner.report.means import P_VALUES, Mean, mean_of, on_scale
from unlearn_runner.report.run_folder import RunFolder
from unlearn_runner.report.selection_file import Chosen, selections

UTILITY, FORGET = "model_utility", "forget.probability"
GROUPS = ("method", "rectifier")
ADAPTER, NO_ADAPTER = "adapter", ("none", "NoAdapter", "?")


@dataclass(frozen=True)
class Axes:
    """Which metric stands for what is kept, and which for what is forgotten."""

    utility: str = UTILITY
    forget: str = FORGET

    @staticmethod
    def among(metrics: Sequence[str]) -> Axes:
        """Returns the usual two, or where a benchmark lacks one, its first that could serve."""
        forget = [m for m in metrics if m.startswith("forget")]
        rest = [m for m in metrics if m not in forget]
        return Axes(
            UTILITY if UTILITY in metrics else next(iter(rest), UTILITY),
            FORGET if FORGET in metrics else next(iter(forget), FORGET),
        )


@dataclass(frozen=True)
class Setting:
    """Runs that differ in their seeds alone: one point of a figure, one row of the seeds' table."""

    runs: Sequence[RunFolder]

    @cached_property
    def by_model(self) -> list[list[RunFolder]]:
        """The runs, those that share an unlearned model together."""
        found: dict[object, list[RunFolder]] = {}
        for run in self.runs:
            found.setdefault(run.unlearned or run.number, []).append(run)
        return list(found.values())

    @cached_property
    def independent(self) -> list[RunFolder]:
        """The runs, of those that share an unlearned model the first alone."""
        return [runs[0] for runs in self.by_model]

    @property
    def first(self) -> RunFolder:
        """The run that stands for what all have in common."""
        return self.runs[0]

    @property
    def numbers(self) -> list[int]:
        """The runs' numbers."""
        return [run.number for run in self.runs]

    def mean(self, metric: str) -> Mean | None:
        """Returns a score's mean over the independent runs that have it."""
        if metric not in self._means:
            self._means[metric] = self._mean(metric)
        return self._means[metric]

    @cached_property
    def _means(self) -> dict[str, Mean | None]:
        return {}

    def _mean(self, metric: str) -> Mean | None:
        found = mean_of(metric, (run.scores.get(metric) for run in self.independent))
        if found is None or found.n > 1 or metric in P_VALUES:
            return found
        only = next(run for run in self.independent if run.scores.get(metric) is not None)
        return replace(found, within=only.interval(metric))

    def delta(self, metric: str, baseline: Setting) -> Mean | None:
        """Returns a score's mean difference to a baseline, runs of equal seeds paired."""

        def score(run: RunFolder) -> float | None:
            found = run.scores.get(metric)
            return None if found is None else on_scale(metric, found)

        return self.difference(score, baseline)

    def difference(self, of: Callable[[RunFolder], float | None], baseline: Setting) -> Mean | None:
        """Returns the mean difference of what runs have to a baseline's, equal seeds paired."""
        theirs = {_seeds(run): of(run) for run in baseline.independent}
        pairs = [(of(run), theirs.get(_seeds(run))) for run in self.independent]
        found = [a - b for a, b in pairs if a is not None and b is not None]
        return Mean(*interval(found), len(found)) if found else None


@dataclass(frozen=True)
class Comparison:
    """Runs, and what is seen only when they are compared with each other."""

    runs: Sequence[RunFolder]
    axes: Axes = Axes()
    left_out: Sequence[str] = ()
    """What is wrong with folders that could not be read."""

    @cached_property
    def directions(self) -> Directions:
        """Which way is better, by score, as the runs recorded it."""
        found = [run.results.get("directions") for run in self.runs]
        return {k: v for d in found if isinstance(d, Mapping) for k, v in d.items()}

    def lower(self, metric: str) -> bool:
        """Returns whether less of a score is better."""
        return self.better(metric) == "lower"

    def better(self, metric: str) -> Literal["higher", "lower"]:
        """Returns which way a score is better."""
        return "lower" if lower(metric, self.directions) else "higher"

    @cached_property
    def metrics(self) -> list[str]:
        """Names of all scores: of the whole first, then view by view."""
        return sort_metrics(dict.fromkeys(name for run in self.runs for name in run.scores))

    @cached_property
    def main_metrics(self) -> list[str]:
        """The scores that fit beside each other: the whole, and what was forgotten and retained.

        A test's statistic says the same as its p-value, and is left to the wide table.
        """
        chosen = (self.axes.utility, self.axes.forget)
        views = (f"{self.axes.forget.partition('.')[0]}.", "forget.", "retain.")
        whole = [m for m in self.metrics if "." not in m and not m.endswith("_ks")]
        return [m for m in self.metrics if m in chosen or m in whole or m.startswith(views)]

    @cached_property
    def settings(self) -> list[Setting]:
        """The runs, those that differ in their seeds alone together."""
        return [Setting(group) for group in self.groups()]

    def points(self, forget: str) -> list[tuple[Setting, Mean, Mean]]:
        """Returns forgetting and utility of every setting that has both, as means over seeds."""
        means = ((s, s.mean(forget), s.mean(self.axes.utility)) for s in self.settings)
        return [(s, x, y) for s, x, y in means if x is not None and y is not None]

    def anchors(self, forget: str) -> list[tuple[str, float, float]]:
        """Returns model, forgetting and utility of what the runs are compared with, each once."""
        found: dict[tuple[str, float, float], None] = {}
        for run in self.runs:
            for model in ("target", "retain_model"):
                scores = run.scores_of(model)
                x, y = scores.get(forget), scores.get(self.axes.utility)
                if x is not None and y is not None:
                    found[model, on_scale(forget, x), y] = None
        return list(found)

    @cached_property
    def front(self) -> set[int]:
        """Numbers of the runs whose setting no other beats in both scores of the trade-off."""
        return {n for setting in self.front_of(self.axes.forget) for n in setting.numbers}

    def front_of(self, forget: str) -> list[Setting]:
        """Returns the front of utility against another score, from most to least utility."""
        points = self.points(forget)
        sign = -1 if self.lower(forget) else 1
        kept = pareto([(sign * x.value, y.value) for _, x, y in points])
        front = [point for point, best in zip(points, kept, strict=True) if best]
        return [s for s, *_ in sorted(front, key=lambda p: p[2].value, reverse=True)]

    def collapsed(self, run: RunFolder) -> bool:
        """Returns whether a run's utility is below 5 % of its target's."""
        mine = run.scores.get(self.axes.utility)
        target = run.scores_of("target").get(self.axes.utility)
        return collapsed(mine, target)

    @property
    def selections(self) -> list[Chosen]:
        """What the sweeps of the runs selected; a file that cannot be read is left out."""
        return self._selections[0]

    @cached_property
    def _selections(self) -> tuple[list[Chosen], list[str]]:
        return selections(self.runs)

    @property
    def notes(self) -> list[str]:
        """What was left out, and why."""
        return [f"Left out: {problem}" for problem in (*self.left_out, *self._selections[1])]

    def label(self, run: RunFolder) -> str:
        """Returns what a run's status does not say of it, in a word or two."""
        words = {
            "process is gone": run.gone,
            "selected": any(chosen.holds(run) for chosen in self.selections),
            "front": run.number in self.front,
            "collapsed": self.collapsed(run),
        }
        return ", ".join(word for word, true in words.items() if true)

    @cached_property
    def differing(self) -> list[str]:
        """Dotted keys in which the runs differ, less those that follow from a group's choice."""
        found = [run.settings for run in self.runs if run.settings]
        keys = list(dict.fromkeys(key for settings in found for key in settings))
        return [key for key in keys if _differ(found, key) and not self._follows(key)]

    @cached_property
    def swept(self) -> dict[str, list[float]]:
        """The numbers, rising, of settings in which runs differ in more than one; no seeds."""
        found = {key: values(self.runs, key) for key in self.differing if key not in SEEDS}
        return {key: numbers for key, numbers in found.items() if len(numbers) > 1}

    def _follows(self, key: str) -> bool:
        """Whether all runs of one method, say, agree in a setting of the method's."""
        group = key.partition(".")[0]
        if key.endswith("._target_"):
            return True
        if group not in (*GROUPS, ADAPTER, "benchmark"):
            return False
        runs = [run for run in self.runs if run.settings]
        values = {(run.choice(group), _plain(run.settings.get(key))) for run in runs}
        return len(values) == len({choice for choice, _ in values})

    @cached_property
    def short(self) -> dict[str, str]:
        """The differing keys' names: their last part where that is one key's alone."""
        last = [key.rpartition(".")[2] for key in self.differing]
        return {
            key: name if last.count(name) == 1 else key
            for key, name in zip(self.differing, last, strict=True)
        }

    def title(self, run: RunFolder, apart_from: Iterable[str] = ()) -> str:
        """Returns what sets a run apart, in a line; its folder's name where nothing is known."""
        if not run.settings:
            return run.name
        parts = self.named_settings(run, apart_from)
        return ", ".join(parts if parts and self.alike else [choices(run), *parts])

    def named_settings(self, run: RunFolder, apart_from: Iterable[str]) -> list[str]:
        """Returns the settings in which runs differ, each with its name."""
        found = {key: run.settings.get(key) for key in self.differing if key not in apart_from}
        return [f"{self.short[k]} {number(v)}" for k, v in found.items() if v is not None]

    @cached_property
    def named_groups(self) -> Sequence[str]:
        """The groups whose options tables name: method, rectifier, and adapters that differ."""
        adapters = {run.choice(ADAPTER) for run in self.runs}
        return (*GROUPS, ADAPTER) if len(adapters) > 1 else GROUPS

    @cached_property
    def alike(self) -> bool:
        """Whether all runs have one method, one rectifier and one adapter."""
        return len({choices(run) for run in self.runs}) == 1

    def groups(self, apart_from: Iterable[str] = SEEDS) -> list[list[RunFolder]]:
        """Returns the runs that agree in all settings but some, in the order of their first."""
        left_out = set(apart_from)
        found: dict[str, list[RunFolder]] = {}
        for run in self.runs:
            same = {k: v for k, v in run.settings.items() if k not in left_out}
            key = _plain(same) if same else f"run {run.number}"
            found.setdefault(key, []).append(run)
        return list(found.values())


def _differ(found: Sequence[Mapping[str, Any]], key: str) -> bool:
    """Returns whether settings differ in a key; of many runs, most share the very value."""
    first = found[0].get(key)
    others = [value for settings in found if (value := settings.get(key)) is not first]
    return any(_plain(value) != _plain(first) for value in others)


def _seeds(run: RunFolder) -> tuple[str, ...]:
    return tuple(str(run.settings.get(key)) for key in SEEDS)


def values(runs: Iterable[RunFolder], key: str) -> list[float]:
    """Returns the numbers that runs have in a setting, rising."""
    found = [run.settings.get(key) for run in runs]
    return sorted({v for v in found if isinstance(v, int | float) and not isinstance(v, bool)})


def choices(run: RunFolder) -> str:
    """Returns a run's method and rectifier, and its adapter where it has one."""
    adapter = run.choice(ADAPTER)
    found = [run.choice(group) for group in GROUPS]
    return " + ".join([*found, adapter] if adapter not in NO_ADAPTER else found)


def how_they_ended(runs: Iterable[RunFolder]) -> str:
    """Returns how many of the runs have each status, in the order met."""
    return ", ".join(f"{n} {status}" for status, n in Counter(r.status for r in runs).items())


def pareto(points: Sequence[tuple[float, float]]) -> list[bool]:
    """Returns for each point whether no other is at least as high in both and higher in one."""
    kept, highest = set[tuple[float, float]](), -math.inf
    # From the highest in the first: who is behind such a point in the second is beaten by it.
    for point in sorted(set(points), reverse=True):
        if point[1] > highest:
            kept.add(point)
            highest = point[1]
    return [tuple(point) in kept for point in points]


def number(value: Any) -> str:
    """Returns a setting as people write it: 0.1, 1e-5, 1e6."""
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "null"}[value]
    if isinstance(value, float):
        return re.sub(r"e\+?(-?)0*(\d)", r"e\1\2", f"{value:g}")
    return json.dumps(value) if isinstance(value, Mapping | list) else str(value)


def _plain(value: Any) -> str:
    return json.dumps(value, sort_keys=True, default=str)
