"""Heat maps of two swept settings: tables whose cells are shaded by their score."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

from unlearn_runner.evaluation.metrics.scores import SEEDS
from unlearn_runner.report.compare import Comparison, Setting, choices, number, values
from unlearn_runner.report.means import mean_name
from unlearn_runner.report.run_folder import RunFolder
from unlearn_runner.utils.text import format_score

FIRST = ("rectifier.gamma", "rectifier.tau")
"""GRU's two settings: what papers show, where they were swept."""
METRICS = ("model_utility", "forget.probability", "forget_quality")
FIXED = {"forget_quality": (-10.0, 0.0), "forget_quality_ks": (0.0, 1.0)}
"""Ends of the shades that all maps share: of exponents of a p-value, and of its statistic."""
MAX_BLOCKS = 12
"""Blocks shown; a map per seed or method adds up."""


@dataclass(frozen=True)
class HeatCell:
    """One pair of settings."""

    text: str
    note: str = ""
    """What is to be read besides the number: diverged, collapsed, of how many seeds."""
    shade: float | None = None
    """From 0, worst, to 1, best; none without a number."""
    kind: str = ""


@dataclass(frozen=True)
class HeatMap:
    """One metric over two settings, everything else equal."""

    metric: str
    better: str
    down: str
    across: str
    heads: Sequence[str]
    rows: Sequence[tuple[str, Sequence[HeatCell]]]


@dataclass(frozen=True)
class Block:
    """The maps of runs that agree in everything but the two settings and the seed."""

    title: str
    maps: Sequence[HeatMap]
    runs: int


def axes(compared: Comparison) -> tuple[str, str] | None:
    """Returns the two settings to show, or none: those swept together with the most values."""
    swept = compared.swept
    if all(key in swept for key in FIRST):
        return FIRST
    pairs = [
        (len(swept[a]) * len(swept[b]), (a, b))
        for a, b in combinations(swept, 2)
        if any(_crossed(group, a, b) for group in compared.groups((a, b, *SEEDS)))
    ]
    return max(pairs)[1] if pairs else None


def _crossed(runs: Sequence[RunFolder], one: str, other: str) -> bool:
    return len(values(runs, one)) > 1 and len(values(runs, other)) > 1


def blocks(compared: Comparison) -> list[Block]:
    """Returns the heat maps, a block for each method, rectifier and other setting."""
    pair = axes(compared)
    if pair is None:
        return []
    groups = [g for g in compared.groups((*pair, *SEEDS)) if _crossed(g, *pair)]
    return [_block(compared, group, *pair) for group in groups[:MAX_BLOCKS]]


def _block(compared: Comparison, group: Sequence[RunFolder], down: str, across: str) -> Block:
    wanted = (compared.axes.utility, compared.axes.forget, *METRICS)
    # Of all runs: where nothing but divergence is to be shown, the runs themselves have none.
    metrics = [m for m in dict.fromkeys(wanted) if m in compared.metrics] or [wanted[0]]
    maps = [_map(compared, group, metric, down, across) for metric in metrics]
    fixed = compared.named_settings(group[0], (down, across, *SEEDS))
    return Block(", ".join([choices(group[0]), *fixed]), maps, len(group))


def _map(
    compared: Comparison, group: Sequence[RunFolder], metric: str, down: str, across: str
) -> HeatMap:
    ys, xs = values(group, down), values(group, across)
    at: dict[tuple[object, ...], list[RunFolder]] = {}
    for run in group:
        at.setdefault((run.settings.get(down), run.settings.get(across)), []).append(run)
    means = {
        place: found.value
        for place, runs in at.items()
        if (found := Setting(runs).mean(metric)) is not None
    }
    span = FIXED.get(metric, (min(means.values(), default=0), max(means.values(), default=0)))
    shades = {place: shade_of(m, *span, compared.lower(metric)) for place, m in means.items()}

    def cell(*place: float) -> HeatCell:
        return _cell(compared, at.get(place, []), means.get(place), shades.get(place))

    rows = [(number(y), [cell(y, x) for x in xs]) for y in ys]
    name, short, heads = mean_name(metric), compared.short, [number(x) for x in xs]
    return HeatMap(name, compared.better(metric), short[down], short[across], heads, rows)


def shade_of(value: float, low: float, high: float, lower: bool) -> float:
    """Returns where between the worst (0) and the best (1) a score lies."""
    share = min(max((value - low) / (high - low), 0.0), 1.0) if high > low else 0.5
    return 1 - share if lower else share


def _cell(
    compared: Comparison, runs: Sequence[RunFolder], mean: float | None, shade: float | None
) -> HeatCell:
    statuses = [run.status for run in runs]
    ended = statuses.count("completed")
    if mean is None:
        # All of one place, by the way the last of them ended: diverged before failed or running.
        kind = "diverged" if "diverged" in statuses else statuses[0] if statuses else "no run"
        return HeatCell("", kind, None, "diverged" if kind == "diverged" else "nothing")
    notes = []
    if (useless := sum(map(compared.collapsed, runs))) > 0:
        notes.append("collapsed" if useless == ended else f"{useless} of {len(runs)} collapsed")
    if (gone := statuses.count("diverged")) > 0:
        notes.append(f"{gone} of {len(runs)} diverged")
    elif len(runs) > 1:
        notes.append(f"{sum(r.status == 'completed' for r in Setting(runs).independent)} seeds")
    kind = "collapsed" if useless else ""
    return HeatCell(format_score(mean), ", ".join(notes), shade, kind)
