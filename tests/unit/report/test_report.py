"""`unlearn-report` on a real sweep: every number on the page is one of the run folders'."""

from __future__ import annotations

import csv
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise, product
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from scipy import stats

from unlearn_runner.commands.report import main
from unlearn_runner.config.command_line import parse
from unlearn_runner.evaluation.metrics import scores
from unlearn_runner.report import (
    answers,
    build,
    compare,
    curves,
    heatmap,
    pdf,
    svg,
    tables,
    telemetry,
)
from unlearn_runner.report.again import again
from unlearn_runner.report.compare import Comparison
from unlearn_runner.report.discovery import find_runs
from unlearn_runner.report.run_folder import RunFolder
from unlearn_runner.sweeps.grid import Grid
from unlearn_runner.sweeps.jobs import planned_jobs
from unlearn_runner.utils.text import format_score

GRID = {"gamma": ("0.1", "0.9"), "tau": ("1", "100"), "lr": (1e-3, 1e6), "seed": (0, 1)}
SWEPT = ("rectifier.gamma=0.1,0.9", "rectifier.tau=1,100", "train.lr=1e-3,1e6", "seed=0,1")
VOID = {"meta", "link", "input", "br", "wbr"}


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sixteen runs of the smallest model, of which those at lr=1e6 diverge."""
    outputs = tmp_path_factory.mktemp("report")
    command = [sys.executable, "-m", "unlearn_runner.run", "-m", "debug=tiny", "method=ga"]
    command += ["rectifier=gru", *SWEPT, f"output_dir={outputs}", "name=grid", "train.steps=6"]
    command += ["parallel.threads=1", "parallel.device=cpu"]
    subprocess.run(command, check=True, capture_output=True, timeout=1800)
    return outputs / "sweeps" / "grid"


@pytest.fixture(scope="module")
def made(sweep: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of the sweep."""
    out = tmp_path_factory.mktemp("made")
    assert main([str(sweep), "--out", str(out)]) == 0
    return out


def runs(folders: list[Path]) -> list[RunFolder]:
    return find_runs(folders).runs


def results(sweep: Path) -> dict[str, dict[str, Any]]:
    return {p.parent.name: json.loads(p.read_text()) for p in sweep.glob("*/results.json")}


def rows(made: Path, name: str = "runs.csv") -> list[dict[str, str]]:
    with (made / name).open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


# --- numbers


def test_the_table_holds_every_run_and_every_score(sweep: Path, made: Path) -> None:
    recorded, found = results(sweep), rows(made)
    assert len(found) == len(recorded) == 16
    for row in found:
        run = recorded[row["folder"]]
        assert row["status"] == run["status"]
        own = {
            k: v for k, v in run["scores"].items() if not k.startswith(("target.", "retain_model."))
        }
        for name, value in own.items():
            assert (float(row[name]) if row[name] else None) == value
        stages = {"unlearn", "evaluate unlearned", "score unlearned"}
        spent = sum(s["seconds"] for s in run["stages"] if s["name"] in stages)
        assert float(row["seconds"]) == pytest.approx(spent, abs=0.05)
    at = {
        (r["rectifier.gamma"], r["rectifier.tau"], float(r["train.lr"]), int(r["seed"])): r
        for r in found
    }
    assert set(at) == set(product(*GRID.values()))
    assert {r["method"] for r in found} == {"ga"}
    assert {r["rectifier"] for r in found} == {"gru"}
    assert {key[2] for key, row in at.items() if row["status"] == "diverged"} == {1e6}


def test_seeds_are_grouped_with_mean_and_interval(sweep: Path, made: Path) -> None:
    by_setting: dict[tuple[float, float], list[float]] = {}
    for run in results(sweep).values():
        gamma, tau, lr = (
            float(found[1])
            for key in ("gamma", "tau", "lr")
            if (found := re.search(rf"{key}=([^,]+)", run["name"]))
        )
        if lr < 1:
            value = run["scores"]["retain.truth_ratio"]
            by_setting.setdefault((gamma, tau), []).append(value)
    found = {
        (float(r["rectifier.gamma"]), float(r["rectifier.tau"])): r
        for r in rows(made, "seeds.csv")
        if float(r["train.lr"]) < 1
    }
    assert len(found) == len(by_setting) == 4
    for key, values in by_setting.items():
        row = found[key]
        assert row["seeds"] == "0, 1"
        assert row["ended"] == "2 completed"
        assert float(row["retain.truth_ratio"]) == pytest.approx(np.mean(values), rel=1e-12)
        low, high = stats.t.interval(0.95, 1, np.mean(values), stats.sem(values))
        half = float(row["retain.truth_ratio (95 % ±)"])
        assert half == pytest.approx((high - low) / 2, rel=5e-3, abs=5e-5)
    assert {r["ended"] for r in rows(made, "seeds.csv") if float(r["train.lr"]) > 1} == {
        "2 diverged"
    }


@pytest.mark.parametrize("count", [2, 3, 10])
def test_an_interval_is_student_s(count: int) -> None:
    values = np.random.default_rng(count).normal(3, 2, count).tolist()
    mean, half = scores.interval(values)
    low, high = stats.t.interval(0.95, count - 1, np.mean(values), stats.sem(values))
    assert half is not None
    assert (mean - half, mean + half) == pytest.approx((low, high), rel=1e-9)
    assert scores.interval([2.5]) == (2.5, None)


def test_the_front_is_what_nothing_dominates() -> None:
    draw = np.random.default_rng(0)
    for size in (1, 2, 5, 40):
        points = [tuple(p) for p in draw.integers(0, 8, (size, 2)).tolist()]
        naive = [
            not any(
                all(o >= m for o, m in zip(other, mine, strict=False)) and other != mine
                for other in points
            )
            for mine in points
        ]
        assert compare.pareto(points) == naive


def test_the_front_heeds_which_way_is_better() -> None:
    # Less forget probability is better: the first run has less, the second more utility.
    compared = Comparison([fake(1, 0.4, 0.1), fake(2, 0.6, 0.3), fake(3, 0.3, 0.2)])
    assert compared.front == {1, 2}
    # More forget quality is better.
    assert [s.numbers for s in compared.front_of("forget_quality")] == [[2], [1]]


def test_a_benchmark_without_the_usual_scores_gets_its_own_axes() -> None:
    assert compare.Axes.among(["model_utility", "forget.probability"]) == compare.Axes()
    found = compare.Axes.among(["retain.knowmem", "forget.verbmem", "forget.knowmem"])
    assert found == compare.Axes("retain.knowmem", "forget.verbmem")


def test_runs_of_one_method_are_told_apart_by_a_setting(sweep: Path) -> None:
    from unlearn_runner.report.tradeoff import series

    keys = {"lr": "train.lr", "gamma": "rectifier.gamma", "tau": "rectifier.tau"}
    found = runs([sweep])
    names = series(Comparison(found))
    for run in found:  # two values each, so any of the three may serve; one serves for all
        key, value = names[run.number].name.split()
        assert float(value) == run.settings[keys[key]]
    assert len({n.name for n in names.values()}) == len({n.place for n in names.values()}) == 2
    other = replace(found[1], results={"provenance": {"choices": {"method": "gd"}}})
    mixed = series(Comparison([found[0], other]))
    assert {s.name for s in mixed.values()} == {"ga + gru", "gd + gru"}
    assert len({s.place for s in mixed.values()}) == 2


def fake(
    number: int, utility: float | None, forget: float | None, target: float = 0.8
) -> RunFolder:
    scores = {
        "model_utility": utility,
        "forget.probability": forget,
        "forget_quality": None if forget is None else 1 - forget,
        "target.model_utility": target,
    }
    status = "diverged" if utility is None else "completed"
    return RunFolder(number, Path(f"r{number}"), {"status": status}, {"scores": scores}, {})


def test_collapsed_is_a_label_below_five_percent_of_the_target() -> None:
    below, at, none = fake(1, 0.0399, 0.1), fake(2, 0.0401, 0.1), fake(3, None, None)
    compared = Comparison([below, at, none, fake(4, 0.0, 0.1, target=0.0)])
    assert [compared.collapsed(run) for run in compared.runs] == [True, False, False, False]
    assert "collapsed" in compared.label(below)
    assert below.status == "completed"


def test_heat_maps_show_every_point_and_what_diverged(sweep: Path) -> None:
    compared = Comparison(runs([sweep]))
    found = heatmap.blocks(compared)
    assert [block.runs for block in found] == [8, 8]  # a learning rate each
    recorded = results(sweep).values()
    for block, lr in zip(found, ("lr=0.001", "lr=1000000.0"), strict=True):
        assert [m.metric for m in block.maps] == [
            "model_utility",
            "forget.probability",
            "log10 forget_quality",
        ]
        shown = block.maps[1]
        assert (shown.down, shown.across) == ("gamma", "tau")
        assert shown.heads == ["1", "100"]
        assert [name for name, _ in shown.rows] == ["0.1", "0.9"]
        for gamma, cells in shown.rows:
            for tau, cell in zip(shown.heads, cells, strict=True):
                here = [
                    run["scores"]["forget.probability"]
                    for run in recorded
                    if f"gamma={gamma},rectifier.tau={tau}," in run["name"]
                    and f"{lr}," in run["name"]
                ]
                assert len(here) == 2
                if lr == "lr=0.001":
                    assert float(cell.text) == pytest.approx(
                        np.mean(here), abs=5.001e-5
                    )  # as shown
                    assert cell.note == "2 seeds"
                    assert cell.shade is not None
                else:
                    assert cell == heatmap.HeatCell("", "diverged", None, "diverged")


def test_heat_maps_tell_a_collapsed_point_from_one_that_diverged() -> None:
    def at(number: int, lr: float, gamma: float, utility: float | None) -> RunFolder:
        run = fake(number, utility, None if utility is None else 0.1)
        settings = {"train": {"lr": lr, "clip": 1.0}, "rectifier": {"gamma": gamma}, "seed": number}
        return replace(run, config=settings)

    cells = {
        (1e-3, 0.1): (0.5, 0.6),
        (1e-3, 0.9): (0.5, 0.01),
        (1e-1, 0.1): (0.01, 0.02),
        (1e-1, 0.9): (0.5, None),
        (1e6, 0.1): (None, None),
        (1e6, 0.9): (None, None),
    }
    numbered = enumerate((*place, u) for place, utilities in cells.items() for u in utilities)
    (block,) = heatmap.blocks(Comparison([at(i, *point) for i, point in numbered]))
    found = {
        (float(lr), float(gamma)): (cell.kind, cell.note)
        for lr, row in block.maps[0].rows
        for gamma, cell in zip(block.maps[0].heads, row, strict=True)
    }
    assert found == {
        (1e-3, 0.1): ("", "2 seeds"),
        (1e-3, 0.9): ("collapsed", "1 of 2 collapsed, 2 seeds"),
        (1e-1, 0.1): ("collapsed", "collapsed, 2 seeds"),
        (1e-1, 0.9): ("", "1 of 2 diverged"),
        (1e6, 0.1): ("diverged", "diverged"),
        (1e6, 0.9): ("diverged", "diverged"),
    }


def test_a_sweep_of_which_all_diverged_is_shown_as_that(sweep: Path, tmp_path: Path) -> None:
    """Also where nothing was scored before."""
    for run in runs([sweep]):
        if run.status == "diverged":
            shutil.copytree(run.path, tmp_path / run.name)
            path = tmp_path / run.name / "results.json"
            path.write_text(json.dumps({**json.loads(path.read_text()), "scores": {}}))
    assert main([str(tmp_path), "--out", str(tmp_path / "out")]) == 0
    text = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert text.count('<td class="diverged">') == 4
    assert "A cross ends the line of a run that diverged." in text
    assert {row["status"] for row in rows(tmp_path / "out")} == {"diverged"}


def test_the_page_says_which_quantity_ran_away_and_when(sweep: Path, made: Path) -> None:
    text = (made / "report.html").read_text(encoding="utf-8")
    gone = [run for run in runs([sweep]) if run.status == "diverged"]
    assert len(gone) == 8
    for run in gone:
        told = run.divergence
        assert (told["stage"], told["step"]) == ("unlearn", run.steps("unlearn")[-1]["step"])
        assert f"unlearn: {told['cause']}; last finite at step {told['step'] - 1}: " in text
    chart = next(c for c in telemetry.charts(runs([sweep]), ()) if c.key == "loss/forget")
    assert chart.over == {run.number for run in gone}
    assert (made / "curve-loss-forget.svg").read_text().count('class="over"') == 8


def test_shades_run_from_worst_to_best() -> None:
    assert heatmap.shade_of(0.1, 0.1, 0.9, lower=True) == 1.0
    assert heatmap.shade_of(0.1, 0.1, 0.9, lower=False) == 0.0
    # Exponents of p-values share one scale, whatever else is in the map.
    assert heatmap.shade_of(-5, *heatmap.FIXED["forget_quality"], lower=False) == 0.5
    assert heatmap.shade_of(-300, *heatmap.FIXED["forget_quality"], lower=False) == 0.0


# --- curves and scales


def test_a_thinned_curve_keeps_its_ends_and_extremes() -> None:
    values = np.random.default_rng(1).normal(size=5000)
    values[1234], values[4321] = 50, -50
    curve = [(float(i), float(v)) for i, v in enumerate(values)]
    found = curves.thinned(curve, 100)
    assert len(found) <= 102
    assert found[0] == curve[0]
    assert found[-1] == curve[-1]
    assert {(1234.0, 50.0), (4321.0, -50.0)} <= set(found)
    assert found == sorted(found)


@pytest.mark.parametrize(
    ("low", "high", "log"),
    [
        (0, 1, False),
        (0.0551, 0.1263, False),
        (-3e5, 2e6, False),
        (1e-30, 1.0, True),
        (0.3, 0.5, True),
        (5, 5, False),
    ],
)
def test_ticks_are_few_within_and_truly_labelled(low: float, high: float, log: bool) -> None:
    scale = svg.scale([low, high], 0, 100, log)
    ticks = scale.ticks()
    assert 2 <= len(ticks) <= 8
    for value, name in ticks:
        assert scale.low * (1 - 1e-9) - 1e-9 <= value <= scale.high * (1 + 1e-9) + 1e-9
        assert float(name) == pytest.approx(value, rel=0.06, abs=1e-9)
    assert len({name for _, name in ticks}) == len(ticks)


def test_steps_have_no_halves() -> None:
    for last in (3, 12, 50, 62, 1000):
        ticks = svg.Scale(1, last, 0, 100, whole=True).ticks(5)
        assert ticks
        assert all(value == int(value) and name == str(int(value)) for value, name in ticks)


def test_names_of_lines_do_not_cover_each_other() -> None:
    places = {1: 100.0, 2: 101.0, 3: 101.5, 4: 180.0, 5: 31.0, 6: 32.0}
    found = curves.apart(places)
    order = sorted(found.values())
    assert min(b - a for a, b in pairwise(order)) >= 11 - 1e-9
    assert sorted(found, key=found.__getitem__) == [5, 6, 1, 2, 3, 4]


# --- answers


def test_answers_before_and_after_are_the_evidence_s(sweep: Path, made: Path) -> None:
    page = (made / "report.html").read_text(encoding="utf-8")
    embedded = re.search(r'<script type="application/json" id="data">(.*?)</script>', page)
    assert embedded
    data = json.loads(embedded[1])
    compared = runs([sweep])
    completed = [run for run in compared if run.status == "completed"]
    assert set(data["runs"]) == {str(run.number) for run in completed}
    for run in completed[:3]:
        for column, names in answers.MODELS.items():
            ran = run.stage(names[0])
            assert ran is not None
            store = sweep.parent.parent / "store"
            for view in ("forget", "retain"):
                table = pq.read_table(
                    store / ran.artifact / f"{view}.generations.parquet"
                ).to_pylist()
                told = data["texts"][data["runs"][str(run.number)][column]][view]
                asked = data["questions"][data["runs"][str(run.number)]["questions"]][view]
                assert len(told) == len(asked) == 5
                for (row, question, answer), pieces in zip(asked, told, strict=True):
                    truth = table[row - 1]
                    assert (question, answer) == (truth["question"], truth["answer"])
                    assert "".join(pieces) == " ".join(truth["generation"].split())


def test_shared_words_are_those_rouge_counts() -> None:
    from rouge_score.rouge_scorer import RougeScorer

    scorer = RougeScorer(["rougeL"])
    pairs = [
        ("In 1872 came The Second Barley.", "The Second Barley came in 1872"),
        ("no word at all", "Something else"),
        ("", "An answer"),
        ("a a b c a", "a b a a"),
    ]
    for text, expected in pairs:
        pieces = answers.pieces(text, expected)
        assert "".join(pieces) == text
        marked = sum(len(re.findall(r"\w+", piece)) for piece in pieces[1::2])
        recall = scorer.score(expected, text)["rougeL"].recall
        assert marked / len(expected.split()) == pytest.approx(recall)


# --- the page


class Page(HTMLParser):
    """Collects what a page is made of, and refuses what is not closed."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


@pytest.fixture(scope="module")
def page(made: Path) -> Page:
    found = Page()
    found.feed((made / "report.html").read_text(encoding="utf-8"))
    assert found.open == []
    return found


def test_the_page_needs_no_network(made: Path, page: Page) -> None:
    text = (made / "report.html").read_text(encoding="utf-8")
    addresses = set(re.findall(r"https?://[^\s\"'<>]+", text))
    assert addresses == {"http://www.w3.org/2000/svg"}
    assert all(not a.get("src") for _, a in page.tags)
    assert "@import" not in text
    assert "url(" not in text


def test_the_page_can_be_heard(page: Page) -> None:
    ids = [a["id"] for _, a in page.tags if a.get("id")]
    assert len(ids) == len(set(ids))
    assert page.all("html")[0]["lang"] == "en"
    for tag, attributes in page.tags:
        for name in ("aria-labelledby", "aria-describedby"):
            assert set((attributes.get(name) or "").split()) <= set(ids), tag
    assert all(a.get("scope") for a in page.all("th"))
    pictures = [a for a in page.all("svg") if a.get("role") == "img"]
    assert len(pictures) >= 8
    assert all(a.get("aria-labelledby") for a in pictures)
    assert all(a.get("aria-hidden") or a in pictures for a in page.all("svg"))
    assert all(a.get("aria-label") or a.get("id") in ("words", "wide") for a in page.all("input"))
    levels = [int(tag[1]) for tag, _ in page.tags if re.fullmatch(r"h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(b - a <= 1 for a, b in pairwise(levels))
    links = {a["href"] for a in page.all("a")}
    assert {link[1:] for link in links if link} <= set(ids)


def test_every_picture_is_also_a_file_that_parses(made: Path) -> None:
    from xml.etree import ElementTree

    found = sorted(made.glob("*.svg"))
    assert len(found) >= 8
    for path in found:
        root = ElementTree.parse(path).getroot()
        assert [child.tag.rpartition("}")[2] for child in root[:3]] == ["style", "title", "desc"]
        assert (
            "nan" not in " ".join(v for e in root.iter() for v in e.attrib.values()).lower().split()
        )


def test_what_runs_say_cannot_become_part_of_the_page(sweep: Path, tmp_path: Path) -> None:
    bad = "</script><script>alert('x')</script><img src=x>"
    copied = Path(shutil.copytree(next(sweep.iterdir()), tmp_path / "s" / "a-b-c,x=1"))
    for name in ("results.json", "metrics.jsonl"):
        (copied / name).unlink()
    (copied / "status.json").write_text(json.dumps({"status": "failed", "error": bad}))
    other = Path(shutil.copytree(sweep / sorted(results(sweep))[0], tmp_path / "s" / "d-e-f,x=2"))
    content = json.loads((other / "results.json").read_text())
    content["provenance"]["command"] = content["provenance"]["choices"]["method"] = bad
    (other / "results.json").write_text(json.dumps(content))
    unit = svg.Scale(0, 1, 0, 1)
    frame = svg.Frame(unit, unit, bad, bad)
    marks = [svg.Mark([], svg.Name("no", 0, 0, bad), "pt", "1", bad)]
    found = build.alone(svg.Figure("n", bad, bad, 1, 1, frame, marks, [svg.Key("s0", "M0 0", bad)]))
    assert "<script" not in found
    assert "<img" not in found
    assert main([str(tmp_path / "s"), "--out", str(tmp_path / "out")]) == 0
    text = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "<script>alert" not in text
    assert "<img" not in text
    assert "&lt;/script&gt;&lt;script&gt;alert" in text
    assert answers.as_json(answers.Answers()) == {"questions": {}, "texts": {}, "runs": {}}


def test_texts_of_models_stay_data(tmp_path: Path) -> None:
    from unlearn_runner.report.build import _environment

    bad = "</script><!-- <script>"
    text = _environment().from_string("{{ data|embedded }}").render(data={"a": bad})
    assert "<" not in text
    assert json.loads(text) == {"a": bad}


# --- Markdown and LaTeX


def test_markdown_and_latex_hold_the_same_table(made: Path) -> None:
    lines = (made / "runs.md").read_text(encoding="utf-8").splitlines()
    assert len(lines) == 2 + 16
    assert {line.count("|") for line in lines} == {lines[0].count("|")}
    tex = (made / "runs.tex").read_text(encoding="utf-8")
    body = [line for line in tex.splitlines() if line.endswith(r"\\")]
    assert len(body) == 1 + 16
    assert {len(re.findall(r"(?<!\\)&", line)) for line in body} == {lines[0].count("|") - 2}
    assert not re.search(r"(?<!\\)[_%#]", "\n".join(body))
    assert tex.isascii()


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("a_b & 50%", r"a\_b \& 50\%"),
        ("3.06e-11", r"$3.06\cdot10^{-11}$"),
        ("0.5 ± 1.20e-05", r"0.5 $\pm$ $1.20\cdot10^{-5}$"),
        ("–", "--"),
        ("[2pt] a|b<c>", "{[}2pt] a|b<c>"),
        (
            r"\input{x} $y$ ~^",
            r"\textbackslash{}input\{x\} \$y\$ \textasciitilde{}\textasciicircum{}",
        ),
    ],
)
def test_latex_of_a_cell(text: str, wanted: str) -> None:
    assert tables.tex(text) == wanted


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("model_utility", "model_utility"),
        ("_a_ **b** `c`", r"\_a\_ \*\*b\*\* \`c\`"),
        ("[x](http://y) | www.z", r"\[x\](http&#58;//y) \| www&#46;z"),
        ("<script>&", "&lt;script&gt;&amp;"),
    ],
)
def test_markdown_of_a_cell(text: str, wanted: str) -> None:
    assert tables._pipe(text) == wanted


# --- a paper's table, and what is copied


def test_the_paper_table_has_anchors_and_the_best_in_bold(sweep: Path, tmp_path: Path) -> None:
    names = ["model_utility", "forget.probability", "forget.truth_ratio"]
    assert main([str(sweep), "--out", str(tmp_path), "--columns", ",".join(names)]) == 0
    text = (tmp_path / "paper.md").read_text(encoding="utf-8")
    lines = [[c.strip() for c in line.strip("| ").split("|")] for line in text.splitlines()]
    body = [line[-len(names) :] for line in lines[2:]]
    recorded = list(results(sweep).values())
    for line, model in ((body[0], "target"), (body[-1], "retain_model")):
        assert line == [format_score(recorded[0]["scores"][f"{model}.{name}"]) for name in names]
    by_setting: dict[tuple[str, ...], list[dict[str, float]]] = {}
    for run in recorded:
        place = tuple(re.findall(r"(?:gamma|tau|lr)=[^,]*", run["name"]))
        if run["status"] == "completed":
            by_setting.setdefault(place, []).append(run["scores"])
    means = [[np.mean([s[n] for s in group]) for n in names] for group in by_setting.values()]
    shown = [[cell.strip("*").partition(" ±")[0] for cell in line] for line in body[1:-1]]
    shown = [line for line in shown if line != ["–"] * len(names)]
    assert sorted(shown) == sorted([format_score(float(v)) for v in line] for line in means)
    for column, name in enumerate(names):
        better = min if recorded[0]["directions"][name] == "lower" else max
        best = format_score(float(better(line[column] for line in means)))
        expected = {best} if len({line[column] for line in shown}) > 1 else set()
        bold = {cell for cell in (line[column] for line in body) if cell.startswith("**")}
        assert {cell.strip("*").partition(" ±")[0] for cell in bold} == expected
    assert "**" in text
    tex = (tmp_path / "paper.tex").read_text(encoding="utf-8")
    assert tex.count(r"\textbf{") == sum(cell.startswith("**") for line in body for cell in line)
    assert tex.count(r"\midrule") == 3


def test_a_score_that_no_run_has_is_no_column(sweep: Path, capsys: Any) -> None:
    assert main([str(sweep), "--columns", "model_utilty"]) == 2
    fix = capsys.readouterr().err.splitlines()[1]
    assert fix == f"fix: unlearn-report {shlex.quote(str(sweep))} --columns model_utility"


def test_the_copied_command_makes_that_run(sweep: Path) -> None:
    for item in again(Comparison(runs([sweep])), None)[:3]:
        _, *words = shlex.split(item.command)
        command = parse(words)
        with Grid(command.overrides, command.folders).opened() as grid:
            (job,) = planned_jobs(grid, [], {})
        assert job.folder == item.run.path
        keys = [stage.key for stage in job.plan.stages]
        assert keys == [stage["key"] for stage in item.run.results["stages"]]
        if item.run.status == "completed":
            assert list(Path(item.model).glob("*.safetensors"))


def test_waiting_runs_are_folded(sweep: Path, tmp_path: Path) -> None:
    for number, folder in enumerate(sorted(sweep.iterdir())[:2]):
        copied = Path(shutil.copytree(folder, tmp_path / "s" / folder.name))
        if number:
            for name in ("results.json", "metrics.jsonl"):
                (copied / name).unlink()
            (copied / "status.json").write_text(json.dumps({"status": "waiting"}))
    assert main([str(tmp_path / "s"), "--out", str(tmp_path / "out")]) == 0
    text = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "<details><summary>1 waiting run</summary>" in text
    assert text.count('class="waits"') == 1


def test_figures_are_pdf_where_matplotlib_is_installed(made: Path) -> None:
    if not pdf.available():
        pytest.skip("needs the extra figures")
    drawn = {path.stem for path in made.glob("*.pdf")}
    assert drawn == {path.stem for path in made.glob("*.svg")}
    assert all(path.read_bytes().startswith(b"%PDF") for path in made.glob("*.pdf"))


# --- reading


def test_runs_sort_by_their_numbers_not_their_letters(sweep: Path) -> None:
    found = [(r.settings["rectifier.gamma"], r.settings["rectifier.tau"]) for r in runs([sweep])]
    assert found == sorted(found)


def test_a_sweep_a_run_and_the_outputs_folder_are_all_found(sweep: Path) -> None:
    assert len(runs([sweep.parent.parent])) == len(runs([sweep])) == 16
    one = next(sweep.iterdir())
    assert [r.path for r in runs([one])] == [one]
    assert len(runs([sweep, one])) == 16  # named twice, read once


def test_a_method_is_called_as_it_was_chosen(sweep: Path) -> None:
    run = runs([sweep])[0]
    assert run.provenance["choices"]["method"] == "ga" == run.choice("method")
    # A run that left no results: by its folder's name; under a name of its own, by its class.
    bare = replace(run, results={})
    assert bare.choice("method") == "ga"
    named = replace(bare, path=Path("outputs/runs/mine"), config={**run.config, "name": "mine"})
    assert named.choice("method") == "GA"


def test_a_stage_s_price_survives_a_cached_run(sweep: Path, tmp_path: Path) -> None:
    from unlearn_runner.report.cost import own_seconds

    run = runs([sweep])[0]
    stages = [{**s, "cached": True, "seconds": 0.0} for s in run.results["stages"]]
    again = replace(run, results={**run.results, "stages": stages})
    assert own_seconds(again) == pytest.approx(own_seconds(run), abs=0.1)
    gone = replace(again, path=tmp_path / "runs" / "x", config={})
    assert own_seconds(gone) is None


MISTAKES = [
    (["{tmp}/nothing"], "there is no folder"),
    (["{tmp}/empty"], "holds no run"),
    (["{tmp}/broken"], "broken/one/results.json cannot be read"),
    (["{tmp}/list"], "list/one/results.json cannot be read: it is not what a run writes"),
    (["{tmp}/shape"], 'results.json cannot be read: "scores" is not as a run writes it'),
    (["{tmp}/yaml"], "config.yaml cannot be read"),
    (["{sweep}", "--forget", "forget.probabilty"], "no run has that score"),
    (["{sweep}", "--answers", "0"], "0 is not a whole number"),
    (["{sweep}", "--outt", "x"], "unrecognized arguments"),
    ([], "required"),
]


@pytest.mark.parametrize(("arguments", "said"), MISTAKES)
def test_mistakes_are_answered_in_two_lines_and_nothing_is_written(
    arguments: list[str],
    said: str,
    sweep: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    contents = {"broken": '{"status": ', "list": "[]", "shape": '{"scores": 3}', "yaml": "{}"}
    (tmp_path / "empty").mkdir()
    for name, content in contents.items():
        (tmp_path / name / "one").mkdir(parents=True)
        (tmp_path / name / "one" / "results.json").write_text(content)
    (tmp_path / "yaml" / "one" / "config.yaml").write_text("a: [")
    before = sorted(tmp_path.rglob("*")) + sorted(sweep.rglob("*"))
    filled = [a.format(tmp=tmp_path, sweep=sweep) for a in arguments]
    assert main(filled) == 2
    told = capsys.readouterr().err.strip().splitlines()
    assert said in told[0]
    assert told[0].startswith("error: ")
    assert len(told) == 2
    assert told[1].startswith("fix: ")
    assert sorted(tmp_path.rglob("*")) + sorted(sweep.rglob("*")) == before


def test_no_report_loads_torch(sweep: Path, tmp_path: Path) -> None:
    code = (
        "import sys; from unlearn_runner.commands import report, status;"
        f"assert report.main([{str(sweep)!r}, '--out', {str(tmp_path)!r}]) == 0;"
        f"assert status.main([{str(sweep)!r}, '--once']) == 0;"
        "print([m for m in ('torch', 'transformers', 'scipy.stats') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


# --- a sweep as large as GRU's grid

GAMMAS = (0.01, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.99)
TAUS = (0.001, 0.005, 0.01, 0.1, 1, 10, 100)
STEPS = 120


@pytest.fixture(scope="module")
def large(sweep: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Copies of two real runs with other numbers, one of them diverged: for size and speed only."""
    out = tmp_path_factory.mktemp("large")
    found = {r.status: r for r in runs([sweep])}
    draw = np.random.default_rng(0)
    for i, (gamma, tau) in enumerate(product(GAMMAS, TAUS)):
        run = found["diverged" if i % 12 == 11 else "completed"]
        job = (
            out / "sweeps" / "grid84" / f"pocket-ga-gru,rectifier.gamma={gamma},rectifier.tau={tau}"
        )
        shutil.copytree(run.path, job)
        content = json.loads((job / "results.json").read_text())
        for name, value in content["scores"].items():
            if value is not None and not name.startswith(("target.", "retain_model.")):
                content["scores"][name] = float(draw.uniform(0, 1))
        for stage in content["stages"]:
            if stage["name"] == "evaluate unlearned" and run.status == "completed":
                stage["key"] = f"{i:016x}"
                _evidence(run, out / "store" / "evaluate" / stage["key"], draw)
        (job / "results.json").write_text(json.dumps(content))
        config = (job / "config.yaml").read_text()
        config = config.replace(f"gamma: {run.settings['rectifier.gamma']}", f"gamma: {gamma}")
        config = config.replace(f"tau: {run.settings['rectifier.tau']}", f"tau: {tau}")
        config = config.replace("lr: 1000000.0", "lr: 0.001")
        config = config.replace(f"\nseed: {run.settings['seed']}\n", "\nseed: 0\n")
        (job / "config.yaml").write_text(config)
        lines = run.steps("unlearn")
        many = [{**lines[s % 2], "step": s + 1, "cosine": draw.normal()} for s in range(STEPS)]
        (job / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in many))
    assert main([str(out / "sweeps" / "grid84")]) == 0
    return out / "sweeps" / "grid84" / "report"


def _evidence(run: RunFolder, folder: Path, draw: np.random.Generator) -> None:
    """Writes answers as long as those of real models."""
    import pyarrow as pa

    ran = run.stage("evaluate unlearned")
    assert ran is not None
    source = run.artifact(ran)
    assert source is not None
    folder.mkdir(parents=True)
    for path in source.glob("*.generations.parquet"):
        table = pq.read_table(path)
        words = [" ".join(map(str, draw.integers(0, 9999, 70))) for _ in range(len(table))]
        at = table.schema.get_field_index("generation")
        pq.write_table(table.set_column(at, "generation", pa.array(words)), folder / path.name)


def test_the_report_of_84_runs_stays_below_two_megabytes(large: Path) -> None:
    assert (large / "report.html").stat().st_size <= 2_000_000
    found = rows(large)
    assert len(found) == 84
    assert sum(row["status"] == "diverged" for row in found) == 7
    assert len({(row["rectifier.gamma"], row["rectifier.tau"]) for row in found}) == 84
    text = (large / "report.html").read_text(encoding="utf-8")
    assert text.count('class="heat"') == 3
    assert text.count('<td class="diverged">') == 3 * 7


# What a reader does, done by a script within the page; what comes of it is left in the page.
PROBE = """
<script>
window.addEventListener("load", () => setTimeout(() => {
  const errors = [], $ = s => document.querySelector(s);
  window.addEventListener("error", e => errors.push(String(e.message)));
  const heads = [...document.querySelectorAll("#table thead th")];
  const at = heads.findIndex(h => h.textContent.startsWith("model_utility"));
  const column = () => [...document.querySelectorAll("#rows tr")].map(r => r.cells[at].textContent);
  const button = heads[at].querySelector("[role=button]");
  button.click(); const up = column(), sort = heads[at].getAttribute("aria-sort");
  button.dispatchEvent(new KeyboardEvent("keydown", {key: "Enter"}));
  const down = column();
  const write = (e, v) => { e.value = v; e.dispatchEvent(new Event(
    e.tagName === "SELECT" ? "change" : "input", {bubbles: true})); };
  write($("#controls select[data-column=status]"), "diverged");
  const some = [...document.querySelectorAll("#rows tr")].filter(r => !r.hidden).length;
  const points = [...document.querySelectorAll(".fig .pt")].filter(
    p => getComputedStyle(p).display !== "none").length;
  write($("#controls select[data-column=status]"), "");
  write($("#words"), "0.99 100");
  const count = $("#count").textContent;
  write($("#words"), "");
  const boxes = [...document.querySelectorAll("#rows input:checked")];
  const number = boxes[0].closest("tr").dataset.run;
  boxes[0].click();
  const unmarked = document.querySelectorAll(`.fig .marked[data-run="${number}"]`).length;
  boxes[0].click();
  const marked = document.querySelectorAll(`.fig .marked[data-run="${number}"]`).length;
  const which = $("#which select"), last = which.options[which.options.length - 1].value;
  write(which, last);
  const told = $("table[data-view=forget] tbody tr").cells[4].textContent;
  const load = performance.getEntriesByType("navigation")[0].loadEventEnd;
  const result = {up, down, sort, some, points, count, unmarked, marked, last, told, load, errors};
  const out = document.createElement("pre");
  out.id = "probe"; out.textContent = JSON.stringify(result); document.body.append(out);
}, 0));
</script>
"""


@pytest.mark.long
def test_the_page_works_in_a_browser(large: Path, tmp_path: Path) -> None:
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("no chromium on this machine")
    text = (large / "report.html").read_text(encoding="utf-8")
    page = tmp_path / "report.html"
    script = PROBE.strip().removeprefix("<script>").removesuffix("</script>")
    allowed = text.replace("script-src '", f"script-src '{build._hash(script)}' '")
    page.write_text(allowed.replace("</body>", PROBE + "</body>"), encoding="utf-8")
    command = [browser, "--headless=new", "--disable-gpu", "--enable-logging=stderr"]
    command += [
        f"--user-data-dir={tmp_path / 'profile'}",
        "--virtual-time-budget=3000",
        "--dump-dom",
    ]
    if os.geteuid() == 0:
        command.append("--no-sandbox")
    done = subprocess.run([*command, page.as_uri()], capture_output=True, text=True, timeout=1800)
    assert "CONSOLE" not in done.stderr
    found = json.loads(re.findall(r'<pre id="probe">(.*?)</pre>', done.stdout)[0])
    assert found["errors"] == []
    assert found["load"] < 2000
    scored = [float(v) for v in found["up"] if v != "–"]
    assert len(scored) == 77
    assert scored == sorted(scored)
    assert [float(v) for v in found["down"] if v != "–"] == scored[::-1]
    assert found["up"][77:] == found["down"][77:] == ["–"] * 7  # unknown ones last, both ways
    assert found["sort"] == "ascending"
    assert (found["some"], found["points"]) == (7, 0)
    shown = re.fullmatch(r"(\d+) of 84 runs shown", found["count"])
    assert shown
    assert 1 <= int(shown[1]) < 84
    assert found["unmarked"] == 0
    assert found["marked"] > 3
    embedded = re.search(r'<script type="application/json" id="data">(.*?)</script>', text)
    assert embedded
    data = json.loads(embedded[1])
    after = data["texts"][data["runs"][found["last"]]["after"]]["forget"][0]
    assert found["told"] == "".join(after)
