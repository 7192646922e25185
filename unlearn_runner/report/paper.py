"""Paper table: a row per setting between target and retain model, the best of each column in bold.

As Markdown, and as a LaTeX `tabular` to be put into a float.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import compress
from typing import Literal

from unlearn_runner.report.compare import Comparison, Setting
from unlearn_runner.report.means import Mean, mean_name, on_scale
from unlearn_runner.report.run_folder import RunFolder
from unlearn_runner.report.tables import (
    NOTHING,
    Cell,
    Column,
    Table,
    as_markdown,
    cell,
    head,
    setting_columns,
    tex,
)
from unlearn_runner.utils.text import format_score

Model = Literal["target", "retain_model"]
MODELS: tuple[tuple[Model, str], ...] = (("target", "target"), ("retain_model", "retain model"))
NAME = "paper"


def files(compared: Comparison, columns: Sequence[str]) -> dict[str, str]:
    """Returns the table with the chosen scores by file name; none without scores.

    Args:
        compared: The runs.
        columns: Scores; the main ones where none is chosen.
    """
    metrics = list(columns) or compared.main_metrics
    settings = [s for s in compared.settings if any(s.mean(m) for m in metrics)]
    if not settings:
        return {}
    names, start = setting_columns(compared)
    firsts = [start(setting.first) for setting in settings]
    varies = [i for i in range(len(names)) if len({row[i].text for row in firsts}) > 1] or [0]
    heads = [names[i] for i in varies]
    heads += [Column(m, mean_name(m), "number", compared.better(m)) for m in metrics]
    able = [all(_useful(compared, run) for run in s.runs) for s in settings]
    best = {metric: _best(compared, list(compress(settings, able)), metric) for metric in metrics}
    body = []
    for setting, first, is_able in zip(settings, firsts, able, strict=True):
        cells = [first[i] for i in varies]
        for metric in metrics:
            cells.append(_score(setting.mean(metric), best[metric] if is_able else ""))
        body.append(cells)
    before, after = (_anchor(compared, *model, metrics, len(varies)) for model in MODELS)
    table = Table("Paper", heads, [*before, *body, *after])
    rules = {len(before), len(before) + len(body)} - {0, len(table.rows)}
    return {f"{NAME}.md": as_markdown(table), f"{NAME}.tex": as_tabular(table, rules, settings)}


def _best(compared: Comparison, settings: Sequence[Setting], metric: str) -> str:
    """Returns how the best mean of a score reads; nothing where all read the same."""
    means = [mean.value for s in settings if (mean := s.mean(metric)) is not None]
    if len({*map(format_score, means)}) < 2:
        return ""
    return format_score((min if compared.lower(metric) else max)(means))


def _useful(compared: Comparison, run: RunFolder) -> bool:
    return run.status not in ("diverged", "failed") and not compared.collapsed(run)


def _score(mean: Mean | None, best: str) -> Cell:
    if mean is None:
        return NOTHING
    return Cell(mean.value, str(mean), format_score(mean.value) == best)


def _anchor(
    compared: Comparison, model: Model, name: str, metrics: Sequence[str], before: int
) -> list[list[Cell]]:
    """Returns a row for each different model that the settings are compared with."""
    found: dict[tuple[float | None, ...], None] = {}
    for run in compared.runs:
        scores = run.scores_of(model)
        found[tuple(scores.get(metric) for metric in metrics)] = None
    rows = []
    for scores in found:
        if any(score is not None for score in scores):
            cells = (
                NOTHING if score is None else cell(on_scale(metric, score), format_score)
                for metric, score in zip(metrics, scores, strict=True)
            )
            rows.append([cell(name), *[Cell("", "")] * (before - 1), *cells])
    return rows


def as_tabular(table: Table, rules: set[int], settings: Sequence[Setting]) -> str:
    r"""Returns a LaTeX `tabular` with `booktabs` rules, one before each of the given rows."""
    form = "".join("r" if column.kind == "number" else "l" for column in table.columns)
    counts = sorted({len(setting.independent) for setting in settings})
    seeds = " to ".join(dict.fromkeys(map(str, (counts[0], counts[-1]))))
    lines = [
        r"% \usepackage{booktabs}",
        f"% Mean of {seeds} seeds; of several with half the width of its 95 % interval.",
        "% Bold: the best of the settings of which no run failed, diverged or collapsed.",
        rf"\begin{{tabular}}{{{form}}}",
        r"\toprule",
        " & ".join(tex(head(column)) for column in table.columns) + r" \\",
        r"\midrule",
    ]
    for number, row in enumerate(table.rows):
        if number in rules:
            lines.append(r"\midrule")
        cells = (rf"\textbf{{{tex(c.text)}}}" if c.best else tex(c.text) for c in row)
        lines.append(" & ".join(cells) + r" \\")
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}"]) + "\n"
