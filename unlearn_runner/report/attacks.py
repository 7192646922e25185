"""Attacks on runs: their verdicts, read from run folders, as a picture and as a table.

The files are checked like all others of a run folder: anybody may have written them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unlearn_runner.evaluation.metrics.scores import SEEDS
from unlearn_runner.report import svg
from unlearn_runner.report.compare import Comparison
from unlearn_runner.report.run_folder import RunFolder
from unlearn_runner.report.schema import is_verdict, read_checked
from unlearn_runner.report.tables import Cell, Column, Table, cell
from unlearn_runner.utils.text import format_score
from unlearn_runner.utils.untrusted import clean

FILES = "attack-*.json"
MAX_JUDGED = 400
"""Verdicts that a report shows."""
SHARES = {"recovered": "came back", "control": "to the retain model", "excess": "difference"}
MODELS = ("target", "unlearned", "attacked", "retain_model", "attacked_retain_model")
WIDTH, TOP, LETTER = 720, 24, 6
"""Pixels: of the figure, above the first line, and of a letter of an attack's name."""
LOWEST, HIGHEST = -0.5, 1.5
"""Shares beyond are drawn at the edge, unless others make room."""
COLORS = 8
"""Of `figure.css`."""


@dataclass(frozen=True)
class Judged:
    """The verdict on one attack on one run."""

    run: RunFolder
    content: Mapping[str, Any]

    @property
    def attack(self) -> str:
        """The attack and its settings."""
        return title_of(self.content)

    @property
    def scores(self) -> Sequence[Mapping[str, Any]]:
        """What was found, by score."""
        return self.content["scores"]


def title_of(content: Mapping[str, Any]) -> str:
    """Returns an attack in words: its name, and the settings that are not its class's defaults."""
    settings = ", ".join(f"{k}={v}" for k, v in content["settings"].items())
    return clean(content["attack"] + (f" ({settings})" if settings else ""))


def read(path: Path) -> Mapping[str, Any]:
    """Returns a verdict, as it is written.

    Raises:
        DataError: If it is not as a run writes it.
    """
    again = f"unlearn-attack {path.parent} attack=relearn"
    return read_checked(path, is_verdict, "verdict on an attack", again)


def judged(runs: Sequence[RunFolder]) -> list[Judged]:
    """Returns the verdicts that lie in run folders, of the models that are there now."""
    found = []
    for run in runs:
        for path in sorted(run.path.glob(FILES), key=lambda path: path.stem):
            one = Judged(run, read(path))
            if one.content["models"] == f"unlearn/{run.unlearned}":
                found.append(one)
    return found[:MAX_JUDGED]


def table(found: Sequence[Judged], title: str = "Attacks") -> Table | None:
    """Returns a row per run, attack and score; none where nothing was attacked."""
    if not found:
        return None
    columns = [Column("run", "run", "number"), Column("attack", "attack"), Column("score", "score")]
    columns += [Column(name, name.replace("_", " "), "number") for name in MODELS]
    for key, label in SHARES.items():
        columns += [Column(key, label, "number"), Column(f"{key}_interval", "95 % interval")]
    columns.append(Column("robustness", "robustness", "number"))
    return Table(title, columns, [_row(one, score) for one in found for score in one.scores])


def _row(one: Judged, score: Mapping[str, Any]) -> list[Cell]:
    row = [cell(one.run.number), cell(one.attack)]
    row.append(cell(clean(score["score"])))
    row += [cell(score["models"].get(name), format_score) for name in MODELS]
    for key in SHARES:
        share = score[key]
        row.append(cell(share and share["value"], "{:.2f}".format))
        row.append(cell(share and f"{share['low']:.2f} to {share['high']:.2f}"))
    return [*row, cell(score["robustness"], format_score)]


def print_table(path: Path, name: str) -> None:
    """Prints the verdict of a file on the terminal."""
    from rich.table import Column as RichColumn
    from rich.table import Table as RichTable

    from unlearn_runner.utils.console import results_console

    content = read(path)
    heads = ["score", "unlearned", "attacked", "retain", "attacked", *SHARES.values(), "robustness"]
    columns = [RichColumn(head, justify="right" if i else "left") for i, head in enumerate(heads)]
    title = f"{name}: {title_of(content)}"
    shown = RichTable(*columns, title=title, title_justify="left", title_style="bold")
    for score in content["scores"]:
        models = (cell(score["models"].get(model), format_score) for model in MODELS[1:])
        shares = (cell(score[key], _told) for key in SHARES)
        cells = (
            cell(clean(score["score"])),
            *models,
            *shares,
            cell(score["robustness"], format_score),
        )
        shown.add_row(*(one.text for one in cells))
    results_console().print(shown)
    print(f"attack   {path}")


@dataclass(frozen=True)
class Lines(svg.Scale):
    """Scale of lines, from 0 on, with a name in the middle of each."""

    names: tuple[str, ...] = ()

    def ticks(self, max_ticks: int = 6) -> list[tuple[float, str]]:
        """Returns the middles of the lines, and their names."""
        return [(i + 0.5, name) for i, name in enumerate(self.names)]


def draw(compared: Comparison, found: Sequence[Judged]) -> svg.Figure | None:
    """Returns the picture of what came back by each verdict's first score, or none.

    A line per attack; in it a mark per run with its 95 % interval, and one for the retain model.
    """
    shown = [one for one in found if one.scores and one.scores[0]["recovered"] is not None]
    if not shown:
        return None
    attacks = tuple(dict.fromkeys(one.attack for one in shown))
    titles = list(dict.fromkeys(compared.title(one.run, SEEDS) for one in shown))
    height = 13 * (len(titles) + 1) + 8
    bottom, left = TOP + height * len(attacks), min(20 + LETTER * max(map(len, attacks)), 440)
    first = [one.scores[0] for one in shown]
    shares = [s[key] for s in first for key in ("recovered", "control") if s[key] is not None]
    values = [min(max(v, LOWEST), HIGHEST) for share in shares for v in share.values()]
    frame = svg.Frame(
        svg.scale([0.0, 1.0, *values], left, WIDTH - 20, log=False),
        Lines(0, len(attacks), TOP, bottom, names=attacks),
        f"share of the forgotten {clean(first[0]['score'])}",
        "",
    )
    ends = (svg.path([(frame.x(at), TOP), (frame.x(at), bottom)]) for at in (0.0, 1.0))
    marks = [svg.Mark([svg.Shape(end, "front-line") for end in ends])]
    for i, attack in enumerate(attacks):
        of_attack = [one for one in shown if one.attack == attack]
        named = [titles.index(compared.title(one.run, SEEDS)) for one in of_attack]
        top = TOP + height * i + 10
        marks += _line(frame, top, list(zip(of_attack, named, strict=True)), titles)
    keys = [svg.Key(f"pt front s{i % COLORS}", svg.marker(i), t) for i, t in enumerate(titles)]
    keys.append(svg.Key("anchor", svg.STAR, "retain model, attacked alike"))
    described = " ".join(
        f"{one.attack}, {compared.title(one.run, SEEDS)}: {_told(one.scores[0]['recovered'])}."
        for one in shown
    )
    title = "What comes back under attack"
    return svg.Figure("attacks", title, described, WIDTH, bottom + 52, frame, marks, keys)


def _line(
    frame: svg.Frame, top: float, found: Sequence[tuple[Judged, int]], titles: Sequence[str]
) -> list[svg.Mark]:
    """Returns the marks of one attack: each run's, by its title's number, and retain models'."""
    marks = []
    for one, series in found:
        share = one.scores[0]["recovered"]
        place = frame.x(share["value"]), top + 13 * series
        shape = svg.Shape(svg.marker(series), "", place)
        title = f"{titles[series]}: {_told(share)} of what was forgotten"
        bars = [_bar(frame, share, place[1])]
        kind = f"pt front s{series % COLORS}"
        marks.append(svg.Mark([shape], None, kind, str(one.run.number), title, bars))
    controls = (one.scores[0]["control"] for one, _ in found)
    for share in {c["value"]: c for c in controls if c is not None}.values():
        place = frame.x(share["value"]), top + 13 * len(titles)
        shape = svg.Shape(svg.STAR, "anchor", place)
        title = f"retain model: {_told(share)} of what it lacks"
        marks.append(svg.Mark([shape], None, "pt s6", "", title, [_bar(frame, share, place[1])]))
    return marks


def _told(share: Mapping[str, float]) -> str:
    return f"{share['value']:.2f} [{share['low']:.2f}, {share['high']:.2f}]"


def _bar(frame: svg.Frame, share: Mapping[str, float], y: float) -> svg.Box:
    return frame.x(share["low"]), y, frame.x(share["high"]), y
