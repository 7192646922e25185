"""Run folders that anybody may have written: none takes a report or a status table down."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from unlearn_runner.commands.report import main as report
from unlearn_runner.commands.status import main as status

SCORES = {"model_utility": 0.5, "forget.probability": 0.2, "forget_quality": 1e-4}
STAGES = [
    {
        "name": name,
        "kind": kind,
        "key": key,
        "cached": False,
        "seconds": 1.5,
        "outcome": "completed",
    }
    for name, kind, key in (
        ("unlearn", "unlearn", "0123"),
        ("evaluate unlearned", "evaluate", "4567"),
        ("score unlearned", "score", "89ab"),
    )
]
EVIL = '"><img src=x onerror=document.title="PWNED"><script>document.title="PWNED"</script>'


def write_run(folder: Path, seed: int = 0, key: str = "0123", **scores: float) -> Path:
    """Writes a run folder as a run does."""
    folder.mkdir(parents=True)
    stages = [{**s, "key": key} if s["name"] == "unlearn" else s for s in STAGES]
    results = {"status": "completed", "name": folder.name, "scores": {**SCORES, **scores}}
    results |= {"stages": stages, "provenance": {"choices": {"method": "ga", "rectifier": "gru"}}}
    lines = [{"stage": "unlearn", "step": i, "loss/forget": 1.0 / (i + 1)} for i in range(3)]
    (folder / "results.json").write_text(json.dumps(results))
    (folder / "status.json").write_text(json.dumps({"status": "completed"}))
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (folder / "config.yaml").write_text(f"name: null\nseed: {seed}\ntrain: {{lr: 0.1}}\n")
    return folder


def results(**changes: Any) -> Callable[[Path], object]:
    def change(folder: Path) -> None:
        path = folder / "results.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))

    return change


def stage(**changes: Any) -> Callable[[Path], object]:
    return results(stages=[{**STAGES[0], **changes}])


def running(**changes: Any) -> Callable[[Path], object]:
    def change(folder: Path) -> None:
        (folder / "results.json").unlink()
        facts = {"status": "running", "host": socket.gethostname(), "pid": os.getpid(), **changes}
        (folder / "status.json").write_text(json.dumps(facts))

    return change


def file(name: str, content: str) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_text(content)


def line(**facts: Any) -> Callable[[Path], object]:
    return file("metrics.jsonl", json.dumps({"stage": "unlearn", "step": 0, **facts}) + "\n")


def device(folder: Path) -> None:
    (folder / "config.yaml").unlink()
    (folder / "config.yaml").symlink_to("/dev/zero")


BOMB = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{chr(i + 1)}: &{chr(i + 1)} [{','.join(['*' + chr(i)] * 9)}]\n" for i in range(97, 112)
)
REFUSED: dict[str, Callable[[Path], object]] = {
    "scores are a text": results(scores="high"),
    "scores are a list": results(scores=[1, 2]),
    "a score is NaN": results(scores={"model_utility": float("nan")}),
    "a score is a text": results(scores={"model_utility": "0.5"}),
    "a score is a list": results(scores={"model_utility": [0.5]}),
    "a score has 400 digits": results(scores={"model_utility": 10**400}),
    "provenance is null": results(provenance=None),
    "choices are a list": results(provenance={"choices": ["ga"]}),
    "divergence is a text": results(status="diverged", divergence="yes"),
    "stages are numbers": results(stages=[1, 2]),
    "a stage without a key": results(stages=[{"name": "unlearn"}]),
    "a key that leaves the store": stage(key="../../../../etc"),
    "a kind that is a path": stage(kind="/etc"),
    "seconds are a text": stage(seconds="long"),
    "along is a mapping": results(along={"step": 1}),
    "an interval with one end": results(intervals={"model_utility": [0.5]}),
    "an interval of texts": results(intervals={"model_utility": ["0", "1"]}),
    "directions are numbers": results(directions={"model_utility": 1}),
    "results are cut": file("results.json", '{"status": "comp'),
    "results are a list": file("results.json", "[]"),
    "results nest deep": file("results.json", '{"a":' * 100_000),
    "a number of 5,000 digits": file("results.json", '{"a": ' + "9" * 5000 + "}"),
    "results are bytes": lambda folder: (folder / "results.json").write_bytes(b"\xff\xfe\x00"),
    "status is a number": file("status.json", '{"status": 5}'),
    "progress is a text": running(progress="a"),
    "progress counts in texts": running(progress={"done": "a", "of": 5, "rate": 1}),
    "a process id of 31 digits": running(pid=10**30),
    "a process id that is none": running(pid=-1),
    "telemetry of mixed types": line(**{"loss/forget": "a"}),
    "telemetry is a list": file("metrics.jsonl", "[1, 2]\n"),
    "telemetry holds a mapping": line(**{"loss/forget": {"a": 1}}),
    "a step that is a text": line(step="a"),
    "a step that is not finite": file("metrics.jsonl", '{"stage": "unlearn", "step": NaN}\n'),
    "a thousand quantities": line(**{f"q{i}": i for i in range(1000)}),
    "weights that are none": line(weights=5),
    "store is a number": file("config.yaml", "store: 5\n"),
    "benchmark is a list": file("config.yaml", "benchmark: [1]\n"),
    "configuration is a list": file("config.yaml", "[]"),
    "configuration nests deep": file("config.yaml", "[" * 100_000),
    "configuration nests in lines": file("config.yaml", "[\n" * 100_000),
    "configuration nests in blocks": file("config.yaml", "- " * 100_000 + "x"),
    "configuration explodes": file("config.yaml", BOMB),
    "configuration refers to itself": file("config.yaml", "a: &a [*a]\n"),
    "configuration makes objects": file(
        "config.yaml", '!!python/object/apply:os.system ["false"]\n'
    ),
    "configuration is large": file("config.yaml", f"a: {'x' * (1 << 20)}\n"),
    "configuration is a device": device,
}
SHOWN: dict[str, Callable[[Path], object]] = {
    "a time without a zone": running(updated="2026-01-01T00:00:00"),
    "a rate of next to nothing": running(progress={"done": 1, "of": 1e100, "rate": 1e-300}),
    "a time that is none": running(updated=["x"], stage={"a": 1}, number="x", of=None),
    "an unknown status": file("status.json", '{"status": "PWNED"}'),
    "numbers at the ends": line(**{"loss/forget": 1e199, "cosine": 1e-320}),
    "one step twice": results(
        scores={**SCORES, "target.model_utility": 0.9},
        along=[{"step": 0, "scores": SCORES}, {"step": 0, "scores": SCORES}],
    ),
    "half a character": results(name="\ud800", scores={"\ud800\x1b[2J": 0.5}),
    "keys that are no names": file("config.yaml", "1: a\ntrue: b\n2020-01-01: .nan\nnull: .inf\n"),
    "a home of nobody": file("config.yaml", "store: ~nobody-of-that-name/x\noutput_dir: ~x\n"),
    "views that are paths": file(
        "config.yaml", 'benchmark: {view: {"../../../etc/passwd": {goal: forget}, 5: 6}}\n'
    ),
    "selection of another shape": lambda folder: (folder.parent / "selection.json").write_text(
        '{"criterion": 5, "selected": []}'
    ),
}


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    """A sweep with two runs that are as they should be."""
    folder = tmp_path / "sweeps" / "s"
    write_run(folder / "pocket-ga-gru,seed=0")
    write_run(folder / "pocket-ga-gru,seed=1", seed=1, key="fedc")
    return folder


@pytest.mark.parametrize("case", REFUSED)
def test_a_broken_run_is_named_and_left_out(
    case: str, sweep: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    REFUSED[case](write_run(sweep / "pocket-ga-gru,seed=2", seed=2, key="bad0"))
    before = {p: p.lstat().st_mtime_ns for p in tmp_path.rglob("*")}
    assert report([str(sweep), "--out", str(tmp_path / "out")]) == 0
    problem = [ln for ln in capsys.readouterr().err.splitlines() if ln.startswith("Left out: ")]
    assert len(problem) == 1
    assert "seed=2" in problem[0]
    text = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "Left out: " in text
    assert "Report of 2 unlearning runs" in text
    status_code = status([str(sweep), "--once"])
    shown = capsys.readouterr()
    assert status_code == 0
    # Telemetry is read by a report alone.
    assert ("seed=2" in shown.err) == ("metrics.jsonl" not in problem[0])
    assert {p: p.lstat().st_mtime_ns for p in before} == before


@pytest.mark.parametrize("case", REFUSED)
def test_a_broken_run_alone_is_a_mistake_in_two_lines(
    case: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_run(tmp_path / "r" / "x")
    REFUSED[case](folder)
    assert report([str(folder), "--out", str(tmp_path / "out")]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert [ln.partition(":")[0] for ln in lines] == ["error", "fix"]
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("case", SHOWN)
def test_a_strange_run_is_shown(
    case: str, sweep: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    SHOWN[case](write_run(sweep / "pocket-ga-gru,seed=2", seed=2, key="odd0"))
    assert report([str(sweep), "--out", str(tmp_path / "out")]) == 0
    assert status([str(sweep), "--once"]) == 0
    shown = capsys.readouterr()
    assert "\x1b" not in shown.out + shown.err
    assert "Report of 3 unlearning runs" in (tmp_path / "out" / "report.html").read_text()


EVIDENCE: dict[str, Callable[[Path], object]] = {
    "no file": lambda path: None,
    "no table": lambda path: path.write_bytes(b"PAR1" * 9),
    "other columns": lambda path: write_table(path, row=[0], question=["q"]),
    "texts that are numbers": lambda path: write_table(
        path, row=[0], question=[1], generation=[2.5], answer=[None]
    ),
    "lengths that differ": lambda path: write_table(
        path, row=[[0]], question=["q"], generation=["g"], answer=["a"]
    ),
    "a folder": lambda path: path.mkdir(),
    "steered terminals": lambda path: write_table(
        path, row=[0], question=["\x1b[2J"], generation=["\x00</script>"], answer=["<b>"]
    ),
}


def write_table(path: Path, **columns: list[Any]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table(columns), path)


@pytest.mark.parametrize("case", EVIDENCE)
def test_evidence_of_anybody_is_shown_or_left_out(
    case: str, sweep: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "store" / "evaluate" / "4567"
    folder.mkdir(parents=True)
    (folder / "manifest.json").write_text('{"seconds": "long"}')
    EVIDENCE[case](folder / "forget.generations.parquet")
    run = sweep / "pocket-ga-gru,seed=0"
    with (run / "config.yaml").open("a") as config:
        config.write("benchmark: {view: {forget: {goal: forget}}}\n")
    stage(name="evaluate unlearned", kind="evaluate", key="4567", cached=True)(run)
    assert report([str(sweep), "--out", str(tmp_path / "out")]) == 0
    text = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert not set(text) & {"\x00", "\x1b"}
    assert text.count("</script>") == 2


# --- nothing that a run says becomes part of the page


class Elements(HTMLParser):
    """Collects the elements of a page and their attributes."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))


def hostile(folder: Path) -> Path:
    """Writes a run whose every name and text is an attack."""
    run = write_run(folder / "sweeps" / EVIL.replace("/", "") / "a-b-c")
    scores = {**SCORES, EVIL: 0.5, f"forget.{EVIL}": 0.1, f"../{EVIL}": 0.2}
    choices = {"method": EVIL, "rectifier": EVIL, "benchmark": EVIL}
    stages = [{**s, "outcome": EVIL} for s in STAGES]
    results(scores=scores, provenance={"choices": choices, EVIL: EVIL}, stages=stages)(run)
    same = ("x" * 78 + "-2", "x" * 90, "X" * 90, "x" * 90 + "!", "x" * 90 + "?")
    keys = (
        *same,
        EVIL,
        f"loss/{EVIL}",
        "../../../../tmp/pwned",
        "loss/../x",
        "LOSS/../X",
        "a\x00b",
    )
    lines = [{"stage": "unlearn", "step": i, **dict.fromkeys(keys, 1.0 + i)} for i in range(4)]
    (run / "metrics.jsonl").write_text("".join(json.dumps(ln) + "\n" for ln in lines))
    (run / "config.yaml").write_text(json.dumps({EVIL: EVIL, "seed": EVIL, "name": EVIL}))
    other = shutil.copytree(run, run.parent / "d-e-f")
    (other / "config.yaml").write_text(json.dumps({EVIL: 5, "seed": 1, "name": None}))
    return run.parent


OURS = {
    *("a", "body", "caption", "code", "dd", "desc", "details", "div", "dl", "dt", "em", "figure"),
    *("footer", "form", "g", "h1", "h2", "h3", "head", "header", "html", "input", "label", "li"),
    *("line", "link", "main", "mark", "meta", "nav", "option", "output", "p", "path", "script"),
    *("section", "select", "small", "span", "style", "summary", "svg", "table", "tbody", "td"),
    *("text", "tfoot", "th", "thead", "title", "tr", "ul", "wbr"),
}


def test_no_element_attribute_or_file_of_a_report_is_a_run_s(tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert report([str(hostile(tmp_path)), "--out", str(out)]) == 0
    text = (out / "report.html").read_text(encoding="utf-8")
    page = Elements()
    page.feed(text)
    assert {tag for tag, _ in page.tags} <= OURS
    names = {name for _, attributes in page.tags for name in attributes}
    assert not {n for n in names if n.startswith("on") or n in ("src", "srcdoc", "action")}
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+", a["id"] or "") for _, a in page.tags if "id" in a)
    ids = [a["id"] for _, a in page.tags if "id" in a]
    assert len(ids) == len(set(ids))
    scripts = [a for tag, a in page.tags if tag == "script"]
    assert scripts == [{"type": "application/json", "id": "data"}, {}]
    policy = next(a["content"] for _, a in page.tags if "http-equiv" in a)
    rules = dict(rule.strip().split(" ", 1) for rule in (policy or "").split(";"))
    assert re.fullmatch(r"'sha256-[A-Za-z0-9+/]{43}='", rules["script-src"])
    assert rules["default-src"] == "'none'"
    # What is written lies in the folder, under names of a fixed alphabet.
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+", path.name) for path in out.iterdir())
    assert not list(tmp_path.parent.glob("**/pwned*"))
    pictures = list(out.glob("curve-*.svg"))
    assert len(pictures) == 11
    for path in out.glob("*.svg"):
        root = ElementTree.parse(path).getroot()
        tags = {element.tag.rpartition("}")[2] for element in root.iter()}
        assert tags <= {"svg", "style", "title", "desc", "g", "path", "line", "text"}


def test_the_policy_names_the_page_s_own_script(tmp_path: Path) -> None:
    from base64 import b64encode
    from hashlib import sha256

    write_run(tmp_path / "r")
    assert report([str(tmp_path / "r"), "--out", str(tmp_path / "out")]) == 0
    text = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    script = re.findall(r"<script>(.*?)</script>", text, re.DOTALL)
    assert len(script) == 1
    digest = b64encode(sha256(script[0].encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in text.replace("&#39;", "'")


@pytest.mark.long
def test_no_script_of_a_run_s_runs_in_a_browser(tmp_path: Path) -> None:
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("no chromium on this machine")
    assert report([str(hostile(tmp_path)), "--out", str(tmp_path / "out")]) == 0
    page = tmp_path / "out" / "report.html"
    for path in (page, next((tmp_path / "out").glob("curve-*.svg"))):
        command = [browser, "--headless=new", "--disable-gpu", f"--user-data-dir={tmp_path / 'p'}"]
        command += ["--virtual-time-budget=3000", "--dump-dom"]
        command += ["--no-sandbox"] if os.geteuid() == 0 else []
        done = subprocess.run(
            [*command, path.as_uri()], capture_output=True, text=True, timeout=1800
        )
        assert "<title>PWNED" not in done.stdout
        assert "<img" not in done.stdout
        if path == page:  # our own script did run
            assert "runs shown</output>" in done.stdout


@pytest.mark.parametrize("case", [case for case in REFUSED if "results" in case or "stage" in case])
def test_a_sweep_takes_no_broken_results_for_finished(case: str, tmp_path: Path) -> None:
    from types import SimpleNamespace

    from unlearn_runner.sweeps.jobs import SweepJob

    folder = write_run(tmp_path / "r")
    REFUSED[case](folder)
    plan = SimpleNamespace(stages=[SimpleNamespace(key="0123")], wanted=[])
    planned: Any = SimpleNamespace(folder=folder, plan=plan, store=None)
    assert SweepJob([], [], planned).refresh_status() == "waiting"
