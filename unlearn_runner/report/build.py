"""Report: run folders in, one HTML page, tables and figures out."""

from __future__ import annotations

import json
import re
from base64 import b64encode
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import cache
from hashlib import sha256
from importlib import resources
from pathlib import Path
from typing import Any

from jinja2 import Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup, escape

from unlearn_runner.evaluation.metrics.scores import COLLAPSED, SEEDS
from unlearn_runner.report import (
    answers,
    attacks,
    certificates,
    cost,
    curves,
    forgetting_curve,
    geffect,
    heatmap,
    paper,
    pdf,
    selection_table,
    svg,
    tables,
    tradeoff,
)
from unlearn_runner.report.again import again
from unlearn_runner.report.compare import Axes, Comparison, Setting
from unlearn_runner.report.equal_forgetting import EqualForgetting
from unlearn_runner.report.overview import facts, listed, overview, shared_settings, warnings, why
from unlearn_runner.report.run_folder import read
from unlearn_runner.report.telemetry import UNLEARN, Chart, charts, numbers
from unlearn_runner.utils.text import format_score
from unlearn_runner.utils.untrusted import clean
from unlearn_runner.utils.version import __version__

MAX_MARKS = 6
"""Runs whose curves stand out, each with a dash pattern and a color of its own."""
WRITERS = {"csv": tables.as_csv, "md": tables.as_markdown, "tex": tables.as_latex}


def report(
    compared: Comparison,
    title: str,
    rows: int,
    store: Path | None,
    baseline: int | None,
    columns: Sequence[str] = (),
) -> dict[str, str | bytes]:
    """Returns the content of every file of the report by its name.

    Args:
        compared: The runs.
        title: What the report is called.
        rows: Answers shown per view.
        store: Where evidence is searched first.
        baseline: Number of a run whose setting the others are compared with.
        columns: Scores of the paper table; the main ones where none is chosen.
    """
    style, script = _text("figure.css"), _text("page.js")
    runs, seeds = tables.of_runs(compared), tables.of_seeds(compared)
    selection = selection_table.table(compared)
    differences = None if baseline is None else tables.of_seeds(compared, baseline)
    marked = marks(compared)
    ringed = marked if len(marked) < len(compared.runs) else []
    pictures, lines = _pictures(compared, ringed), _lines(compared, marked)
    along = EqualForgetting(compared)
    equal, rectification, course = along.table(), along.rectification(), _course(compared)
    troubles = [r for r in compared.runs if r.status != "completed" or not r.scores]
    solved = certificates.table(compared.runs)
    told = answers.collect(compared.runs, rows, store)
    effects = geffect.figures(geffect.measured(compared.runs))
    attacked = attacks.judged(compared.runs)
    verdicts, under_attack = attacks.table(attacked), attacks.draw(compared, attacked)
    template = _environment().get_template("page.html")
    page = template.render(
        title=title,
        style=style + _text("page.css"),
        script=script,
        version=__version__,
        made=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        compared=compared,
        overview=overview(compared),
        warnings=[*warnings(compared), *compared.notes],
        legend=tradeoff.keys(compared),
        equal=equal,
        rectification=rectification,
        course=next((figure for _, figure in course), None),
        runs=runs,
        seeds=seeds,
        selection=selection,
        differences=differences,
        baseline=baseline,
        selected=selection_table.sentences(compared),
        pictures=pictures,
        front=_front(compared),
        script_hash=_hash(script),
        anchors=_anchors(compared),
        choices=_choices(compared),
        marked=marked,
        blocks=heatmap.blocks(compared),
        lines=lines,
        numbers=numbers(compared.runs),
        solved=solved,
        effects=[(one, geffect.table(one), drawn) for one, drawn in effects],
        verdicts=verdicts,
        under_attack=under_attack,
        troubles=[r for r in troubles if r.status != "waiting"],
        waiting=[r for r in troubles if r.status == "waiting"],
        again=again(compared, store),
        answers=told,
        shown_run=next((n for n in (*marked, *told.runs) if n in told.runs), None),
        data=answers.as_json(told),
        facts=facts(compared.runs),
        settings=shared_settings(compared.runs),
        spent=cost.spent(compared.runs),
        any_diverged=any(chart.over for chart, _ in lines),
        any_collapsed=any(map(compared.collapsed, compared.runs)),
        collapsed_share=f"{COLLAPSED:.0%}",
        seed_keys=SEEDS,
    )
    files: dict[str, str | bytes] = {"report.html": page, **paper.files(compared, columns)}
    shown = (runs, seeds, differences, selection, equal, rectification, solved, verdicts)
    for table in shown:
        if table is not None:
            name = table.title.lower().replace(" ", "-")
            files |= {f"{name}.{k}": write(table) for k, write in WRITERS.items()}
    of_effects = [(one, figure) for one, drawn in effects for figure in drawn]
    of_attacks = [] if under_attack is None else [(None, under_attack)]
    drawn = [pictures, course, lines, of_effects, of_attacks]
    if pdf.available():
        files |= {f"{figure.name}.pdf": pdf.draw(figure) for part in drawn for _, figure in part}
    return files | _files(*drawn)


def _course(compared: Comparison) -> list[tuple[None, svg.Figure]]:
    found = forgetting_curve.draw(EqualForgetting(compared))
    return [] if found is None else [(None, found)]


def _pictures(
    compared: Comparison, ringed: Sequence[int]
) -> list[tuple[tradeoff.Panel, svg.Figure]]:
    panels = tradeoff.panels(compared)
    return [(panel, tradeoff.draw(compared, panel, ringed)) for panel in panels]


def _lines(compared: Comparison, marked: Sequence[int]) -> list[tuple[Chart, svg.Figure]]:
    along = [m for m in (compared.axes.utility, compared.axes.forget) if m in compared.metrics]
    found = charts(compared.runs, along)
    return list(zip(found, curves.draw(found, compared, marked), strict=True))


def marks(compared: Comparison) -> list[int]:
    """Returns the runs that stand out: all of a few, else some along the front, then others."""
    eligible = [run.number for run in compared.runs if run.steps(UNLEARN)]
    if len(eligible) <= MAX_MARKS:
        return eligible
    best = [n for setting in compared.front_of(compared.axes.forget) for n in setting.numbers]
    front = [n for n in best if n in eligible]
    chosen = [front[i] for i in answers.spread(len(front), MAX_MARKS)]
    rest = [number for number in eligible if number not in chosen]
    return chosen + [rest[i] for i in answers.spread(len(rest), MAX_MARKS - len(chosen))]


def _front(compared: Comparison) -> list[tuple[Setting, bool]]:
    """Returns the settings of the front, each with whether one of its runs collapsed."""
    front = compared.front_of(compared.axes.forget)
    return [(setting, any(map(compared.collapsed, setting.runs))) for setting in front]


def _anchors(compared: Comparison) -> list[tuple[str, dict[str, float | None]]]:
    """Returns the scores of what the runs are compared with, each different one once."""
    found: list[tuple[str, dict[str, float | None]]] = []
    for anchor in (
        (m, run.scores_of(m)) for m in ("target", "retain_model") for run in compared.runs
    ):
        if anchor not in found and any(value is not None for value in anchor[1].values()):
            found.append(anchor)
    return found


def _choices(compared: Comparison) -> dict[str, list[str]]:
    """Returns what the table can be filtered by."""
    runs = compared.runs
    found = {group: [run.choice(group) for run in runs] for group in compared.named_groups}
    found["status"] = [run.status for run in runs]
    return {key: list(dict.fromkeys(values)) for key, values in found.items()}


@cache
def _text(name: str) -> str:
    return (resources.files("unlearn_runner.report") / "page" / name).read_text(encoding="utf-8")


def _hash(script: str) -> str:
    """Returns what the page's policy calls its one script."""
    return f"sha256-{b64encode(sha256(script.encode()).digest()).decode()}"


@cache
def _environment() -> Environment:
    found = Environment(
        loader=FunctionLoader(_text),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    # "<" is all that could end a script element early.
    found.filters["embedded"] = lambda data: Markup(
        json.dumps(data, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")
    )
    found.filters.update(raw=Markup, px=svg.px, folding=_folding)
    found.filters.update(numbers=listed, score=format_score, why=why)
    return found


def _folding(name: str) -> Markup:
    """Lets a long name break behind its points and underscores."""
    return Markup(re.sub(r"([._])(?=\w\w)", r"\1<wbr>", str(escape(name))))


def write(files: Mapping[str, str | bytes], folder: Path) -> None:
    """Writes the files, whose names have a fixed alphabet."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        data = content.encode() if isinstance(content, str) else content
        (folder / name).write_bytes(data)


def title(folders: Sequence[Path]) -> str:
    """Returns what a report of these folders is called."""
    return clean(", ".join(folder.resolve().name for folder in folders))


def run_figures(folder: Path) -> dict[str, str]:
    """Returns a run's curves and its trade-off against the other models: SVG by file name."""
    runs = [read(folder)]
    compared = Comparison(runs, Axes.among(Comparison(runs).metrics))
    return _files(_pictures(compared, []), _lines(compared, marks(compared)))


def _files(*found: Sequence[tuple[object, svg.Figure]]) -> dict[str, str]:
    return {f"{figure.name}.svg": alone(figure) for part in found for _, figure in part}


def alone(figure: svg.Figure) -> str:
    """Returns a file that says all by itself."""
    macros: Any = _environment().get_template("figure.svg").module
    drawn = macros.figure(figure, _text("figure.css"))
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{drawn}\n'
