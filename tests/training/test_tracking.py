"""Trackers mirror the run folder's files; the mirrors are read back."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Thread
from typing import Any
from xml.etree import ElementTree

import mirrors
import pytest
from mirrors import events, expected_events, holding, items, records, telemetry

from unlearn_runner.errors import ConfigError
from unlearn_runner.report.build import run_figures as figures
from unlearn_runner.tracking.base import Files, Mirrored, Sink, Tracker, require, table
from unlearn_runner.tracking.record import Record
from unlearn_runner.tracking.safe import Safe
from unlearn_runner.tracking.wandb import Wandb
from unlearn_runner.utils.redact import HIDDEN, redacted

TINY = ("debug=tiny", "parallel.threads=1", "parallel.device=cpu")
HANGS = 120.0
"""Seconds after which a test would rather fail than wait."""
SECRETS = {
    "WANDB_API_KEY": "5ec4e7" * 6 + "0000",
    "HF_TOKEN": "hf_neverToBeSeenAnywhere",
}

# A package that a user might have: its tracker opens, takes a line, and breaks.
BREAKING = """
from dataclasses import dataclass
from unlearn_runner.tracking.base import Sink, Tracker

class BreakingSink(Sink):
    def line(self, facts):
        raise SystemExit("the dashboard\\nis on fire")

@dataclass(frozen=True)
class Breaking(Tracker):
    def open(self, run):
        return BreakingSink()
"""

# Python runs a module of this name at the start of every process that finds it.
WITHOUT = """
import os, sys

class Without:
    def find_spec(self, name, path=None, target=None):
        if name == os.environ.get("WITHOUT"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Without())
"""

AT_EXIT = """
import atexit, os, sys
if "LOADED" in os.environ:
    atexit.register(lambda: open(os.environ["LOADED"], "w").write(" ".join(sys.modules)))
"""


@dataclass(frozen=True)
class Ended:
    """A finished process and its run folder."""

    code: int
    err: str
    folder: Path

    def json(self, name: str) -> Any:
        return json.loads((self.folder / name).read_text(encoding="utf-8"))

    @property
    def lines(self) -> list[dict[str, Any]]:
        text = (self.folder / "metrics.jsonl").read_text(encoding="utf-8")
        return [json.loads(line) for line in text.splitlines()]

    @property
    def warnings(self) -> list[str]:
        return [line for line in self.err.splitlines() if "warning" in line or "wandb" in line]


class Workplace:
    """One outputs folder, and a home, that every run of this file shares."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.outputs, self.home = folder, folder / "outputs", folder / "home"
        self.home.mkdir()
        (folder / "site").mkdir()
        (folder / "site" / "sitecustomize.py").write_text(WITHOUT + AT_EXIT)
        (folder / "site" / "breaking.py").write_text(BREAKING)

    def process(self, name: str, *overrides: str, **variables: str) -> Ended:
        path = os.pathsep.join(
            filter(None, [str(self.folder / "site"), os.environ.get("PYTHONPATH")])
        )
        plain = {name: v for name, v in os.environ.items() if not name.startswith("WANDB_")}
        environment = {"HOME": str(self.home), "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
        named = (f"name={name}", f"output_dir={self.outputs}")
        done = subprocess.run(
            [sys.executable, "-m", "unlearn_runner.run", *TINY, *named, *overrides],
            cwd=self.folder,
            env={**plain, **environment, **variables},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=1800,
        )
        return Ended(done.returncode, done.stderr, self.outputs / "runs" / name)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Workplace:
    return Workplace(tmp_path_factory.mktemp("tracked"))


@pytest.fixture(scope="module")
def offline(place: Workplace) -> Ended:
    """The default run with a W&B run beside it; secrets in the environment, and one in a value."""
    ended = place.process(
        "offline",
        "tracker=wandb",
        "tracker.mode=offline",
        "tracker.notes=${oc.env:HF_TOKEN}",
        **SECRETS,
    )
    assert ended.code == 0, ended.err
    return ended


# --- W&B, read back


def summary(folder: Path) -> dict[str, Any]:
    return mirrors.summary(records(folder))


def started(folder: Path) -> Any:
    return mirrors.started(records(folder))


def test_the_offline_run_equals_metrics_jsonl(offline: Ended) -> None:
    assert len(offline.lines) == 2 + 4 + 4 + 3
    assert telemetry(offline.folder) == offline.lines


def test_every_stage_has_its_own_axis(offline: Ended) -> None:
    metrics = [r.metric for r in records(offline.folder) if r.HasField("metric")]
    axes = {metric.name: metric.step_metric for metric in metrics}
    expected = {f"{x['stage']}/{k}": f"{x['stage']}/step" for x in offline.lines for k in x}
    for stage in {line["stage"] for line in offline.lines}:
        del expected[f"{stage}/stage"]
        expected[f"{stage}/step"] = ""
    assert axes == expected


def test_the_summary_and_the_table_hold_the_scores(offline: Ended) -> None:
    scores, found = offline.json("results.json")["scores"], summary(offline.folder)
    prefix = "scores/"
    told = {k[len(prefix) :]: v for k, v in found.items() if k.startswith(prefix)}
    assert told == {name.replace(".", "/"): value for name, value in scores.items()}
    assert found["status"] == "completed"
    assert found["provenance"]["seeds"] == {"seed": 0, "target/seed": 0}

    (path,) = offline.folder.glob("wandb/offline-run-*/files/media/table/results*.table.json")
    shown = json.loads(path.read_text())
    assert shown["columns"] == ["metric", "target", "unlearned", "retain_model"]
    rows = {name: cells for name, *cells in shown["data"]}
    assert len(rows) == len(scores) / 3
    for name, cells in rows.items():
        assert cells == [scores[f"target.{name}"], scores[name], scores[f"retain_model.{name}"]]


def test_the_configuration_and_the_name_are_the_run_s(offline: Ended) -> None:
    from omegaconf import OmegaConf

    run = started(offline.folder)
    written: Any = OmegaConf.to_container(OmegaConf.load(offline.folder / "config.yaml"))
    logged = items(run.config.update)
    del logged["_wandb"]
    assert logged.pop("choices")["method"] == "gd"
    assert written["tracker"]["notes"] == HIDDEN
    assert logged == written
    assert (run.display_name, run.project, run.job_type) == (
        "offline",
        "unlearn-runner",
        "unlearn",
    )
    assert run.run_group == ""
    # Neither is asked for, and the run is offline.
    assert run.git.commit == ""
    assert not [r for r in records(offline.folder) if r.HasField("stats")]


def test_the_artifact_holds_both_files_and_the_figures(offline: Ended) -> None:
    found = [r.artifact for r in records(offline.folder) if r.HasField("artifact")]
    (artifact,) = [artifact for artifact in found if artifact.type == "run"]
    kept = {entry.path: Path(entry.local_path) for entry in artifact.manifest.contents}
    drawn = {name for name in kept if name.startswith("figures/")}
    assert {"figures/tradeoff-forget.probability.svg", "figures/curve-cosine.svg"} <= drawn
    for name in drawn:
        assert ElementTree.parse(kept[name]).getroot().tag.endswith("svg")
    assert set(kept) - drawn == {"metrics.jsonl", "results.json"}
    for name, path in kept.items():
        assert path.is_relative_to(offline.folder)
        assert (
            name in drawn
            or path.read_bytes().strip() == (offline.folder / name).read_bytes().strip()
        )


def test_a_diverged_run_has_its_curves(offline: Ended, tmp_path: Path) -> None:
    for name in ("config.yaml", "metrics.jsonl", "status.json"):
        shutil.copy(offline.folder / name, tmp_path)
    results = offline.json("results.json")
    results |= {"status": "diverged", "scores": dict.fromkeys(results["scores"])}
    (tmp_path / "results.json").write_text(json.dumps(results))
    drawn = figures(tmp_path)
    assert drawn.keys() == {n for n in figures(offline.folder) if n.startswith("curve-")}
    assert "curve-cosine.svg" in drawn


def test_no_secret_is_in_any_file(offline: Ended, place: Workplace) -> None:
    for folder in (offline.folder, place.home):
        assert holding(folder, SECRETS.values()) == []


def test_nothing_about_the_machine_is_collected(offline: Ended) -> None:
    assert not [r for r in records(offline.folder) if r.HasField("environment")]
    names = {path.name for path in (offline.folder / "wandb").rglob("*") if path.is_file()}
    assert not names & {"wandb-metadata.json", "requirements.txt", "conda-environment.yaml"}
    assert not [name for name in names if name.endswith((".py", ".patch"))]
    for record in records(offline.folder):
        assert not record.HasField("output_raw")
        assert not record.HasField("stats")


def test_only_hashes_of_code_are_written_into_the_home(offline: Ended, place: Workplace) -> None:
    own = place.home / ".cache" / "unlearn-runner" / "code"
    found = [path for path in place.home.rglob("*") if path.is_file()]
    assert [path for path in found if path.parent != own or path.suffix != ".json"] == []


def test_a_healthy_tracker_is_silent_and_recorded(offline: Ended) -> None:
    assert offline.warnings == []
    for name in ("results.json", "status.json"):
        identity = started(offline.folder).run_id
        told = {"name": "wandb", "id": identity, "error": None}
        assert offline.json(name)["tracker"] == told


def test_the_same_command_continues_the_same_run(place: Workplace, offline: Ended) -> None:
    before = started(offline.folder).run_id
    again = place.process(
        "offline",
        "tracker=wandb",
        "tracker.mode=offline",
        "tracker.notes=${oc.env:HF_TOKEN}",
        **SECRETS,
    )
    assert again.code == 0, again.err
    assert started(again.folder).run_id == before  # and there is one folder of it
    # Nothing was computed, and still nothing is missing.
    assert telemetry(again.folder) == again.lines


# --- trackers that fail


def check_offline_instead(ended: Ended) -> str:
    """The run is complete, says one thing, and has left what can be sent later."""
    assert ended.code == 0, ended.err
    assert ended.json("status.json")["status"] == "completed"
    (said,) = ended.warnings
    assert said.startswith("warning: tracker=wandb: ")
    assert "recording offline" in said, "known at once: a mirror that hangs is given up instead"
    for name in ("results.json", "status.json"):
        assert said.endswith(ended.json(name)["tracker"]["error"])
    assert telemetry(ended.folder) == ended.lines
    assert summary(ended.folder)["status"] == "completed"
    assert SECRETS["WANDB_API_KEY"] not in ended.err
    return said


def test_an_invalid_key_without_a_network_is_said_once(place: Workplace, offline: Ended) -> None:
    variables = {**SECRETS, "WANDB_BASE_URL": "http://127.0.0.1:9"}
    ended = place.process("unreachable", "tracker=wandb", "tracker.mode=online", **variables)
    assert "http://127.0.0.1:9 cannot be reached: " in check_offline_instead(ended)


class Refusing(BaseHTTPRequestHandler):
    """W&B's answer to a key that it does not know."""

    def do_POST(self) -> None:
        body = b'{"errors": [{"message": "invalid key"}]}'
        self.send_response(401)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.mark.long
def test_a_refused_key_is_said_once(place: Workplace, offline: Ended) -> None:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Refusing)
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        variables = {**SECRETS, "WANDB_BASE_URL": f"http://127.0.0.1:{server.server_port}"}
        ended = place.process("refused", "tracker=wandb", **variables)  # auto: somebody has a key
    finally:
        server.shutdown()
        server.server_close()
    check_offline_instead(ended)


@pytest.mark.long
def test_a_missing_key_is_said_and_never_asked_for(place: Workplace, offline: Ended) -> None:
    ended = place.process("no-key", "tracker=wandb", "tracker.mode=online")
    assert "nobody is logged in" in check_offline_instead(ended)


def test_a_tracker_that_raises_stops_nothing(place: Workplace, offline: Ended) -> None:
    ended = place.process(
        "breaking", "seed=1", "tracker._target_=breaking.Breaking", "trusted=[breaking]"
    )
    assert ended.code == 0, ended.err
    (said,) = ended.warnings
    assert said == (
        "warning: tracker=breaking: SystemExit: the dashboard is on fire; "
        "the run goes on without it, and its folder's files hold everything"
    )
    assert len(ended.lines) == 13
    assert ended.json("results.json")["tracker"]["error"].startswith("SystemExit: the dashboard")
    assert ended.json("status.json")["status"] == "completed"


class Stuck(Sink):
    """Takes no line before it is let go."""

    def __init__(self, go: Event) -> None:
        self.go = go
        self.taken: list[Mapping[str, Any]] = []

    def line(self, facts: Mapping[str, Any]) -> None:
        self.go.wait(HANGS)
        self.taken.append(facts)


@dataclass(frozen=True)
class StuckTracker(Tracker):
    """Opens when it is told to."""

    opens: Event
    sink: Stuck
    patience = HANGS

    def open(self, run: Mirrored) -> Sink:
        self.opens.wait(HANGS)
        return self.sink


@pytest.fixture
def stuck() -> Iterator[StuckTracker]:
    go = Event()
    tracker = StuckTracker(Event(), Stuck(go))
    yield tracker
    go.set()
    tracker.opens.set()


def test_a_slow_mirror_delays_no_line(
    stuck: StuckTracker,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    record = Record(tmp_path)
    stuck.opens.set()
    record.mirror(stuck, {}, ["x"])
    for step in range(100):
        record.line({"stage": "unlearn", "step": step})
    record.results({"scores": {}})
    assert json.loads((tmp_path / "results.json").read_text())["tracker"]["error"] is None
    monkeypatch.setattr(StuckTracker, "patience", 0.3)
    record.status("completed")
    assert stuck.sink.taken == [], "all of that while the first line hung"
    assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == 100
    for name in ("results.json", "status.json"):
        error = json.loads((tmp_path / name).read_text())["tracker"]["error"]
        assert error.startswith("it did not close within 0.3 s")
    assert capsys.readouterr().err.count("warning") == 1


def test_a_mirror_that_does_not_open_is_left_alone(
    stuck: StuckTracker,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(StuckTracker, "patience", 0.3)
    before = set(threading.enumerate())
    safe = Safe(stuck, tmp_path, {}, "x")
    (mirror,) = set(threading.enumerate()) - before
    safe.line({"stage": "unlearn", "step": 1})
    safe.finish("completed")
    assert mirror.is_alive(), "nobody waited for it"
    stuck.sink.go.set()
    stuck.opens.set()  # it opens after all, and nobody is there
    mirror.join(HANGS)
    assert not mirror.is_alive()
    assert stuck.sink.taken == []
    assert capsys.readouterr().err.count("warning") == 1
    assert (safe.error or "").startswith("it did not open within 0.3 s")


# --- lines of a stage that was interrupted


@dataclass(frozen=True)
class Kept(Tracker):
    lines: list[Mapping[str, Any]]

    def open(self, run: Mirrored) -> Sink:
        sink = Sink()
        sink.line = self.lines.append
        return sink


def test_a_continued_stage_is_mirrored_from_its_first_step(tmp_path: Path) -> None:
    def line(stage: str, step: int, attempt: int) -> dict[str, Any]:
        return {"stage": stage, "step": step, "attempt": attempt}

    # Killed after step 5, whose last checkpoint was of step 3; another stage is in the store.
    own, lines = tmp_path / "own.jsonl", []
    own.write_text("".join(json.dumps(line("unlearn", s, 1)) + "\n" for s in range(1, 6)))
    record = Record(tmp_path / "run")
    record.telemetry([])
    record.mirror(Kept(lines), {}, ["x"])
    for step in range(4, 8):
        with own.open("a") as file:
            file.write(json.dumps(line("unlearn", step, 2)) + "\n")
        record.line(line("unlearn", step, 2), own)
    expected = [line("unlearn", s, 1 if s < 4 else 2) for s in range(1, 8)]
    cached = [line("target", s, 0) for s in (1, 2)]
    metrics = tmp_path / "run" / "metrics.jsonl"
    assert [json.loads(text) for text in metrics.read_text().splitlines()] == expected
    record.telemetry(json.dumps(x) + "\n" for x in cached + expected)
    record.status("completed")
    assert lines == expected + cached


# --- TensorBoard


@pytest.mark.long
def test_tensorboard_equals_metrics_jsonl(place: Workplace, offline: Ended) -> None:
    from torch.utils.tensorboard import SummaryWriter

    folder = place.outputs / "runs" / "board" / "tensorboard"
    with SummaryWriter(str(folder)) as earlier:  # by an attempt that was killed
        earlier.add_scalar("unlearn/lr", 1.0, 1, new_style=True)
    ended = place.process("board", "tracker=tensorboard", **SECRETS)
    assert ended.code == 0, ended.err
    assert ended.warnings == []
    scalars, texts = events(folder)
    assert scalars == expected_events(ended.folder)
    assert texts.keys() == {"config", "results", "provenance", "status"}
    rows = texts["results"].splitlines()
    assert len(rows) == 2 + len(ended.json("results.json")["scores"]) / 3


# --- packages


@pytest.mark.parametrize("package", ["wandb", "tensorboard"])
def test_a_missing_package_is_named_before_anything_runs(package: str, place: Workplace) -> None:
    ended = place.process(f"no-{package}", f"tracker={package}", WITHOUT=package)
    assert ended.code == 2
    assert ended.err.splitlines() == [
        f"error: tracker={package} needs the package {package}, which is not installed; without "
        "it: tracker=files",
        f"fix: pip install 'unlearn-runner[{package}]'",
    ]
    assert not ended.folder.exists()


def test_a_plan_loads_no_dashboard(place: Workplace, tmp_path: Path) -> None:
    loaded = tmp_path / "loaded"
    ended = place.process("p", "plan_only=true", "tracker=wandb", LOADED=str(loaded))
    assert ended.code == 0, ended.err
    modules = set(loaded.read_text().split())
    assert "unlearn_runner.tracking.wandb" in modules
    assert not modules & {"wandb", "tensorboard", "torch"}


def test_what_is_switched_off_needs_no_package(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("WANDB_MODE", raising=False)
    assert Wandb().mirrors
    assert not Files().mirrors
    assert not Wandb(mode="disabled").mirrors
    monkeypatch.setenv("WANDB_MODE", "disabled")
    assert not Wandb().mirrors
    assert Wandb(mode="offline").mirrors
    with pytest.raises(ConfigError, match="nowhere_to_be_found"):
        require("nowhere_to_be_found", "x")
    record = Record(tmp_path)
    record.mirror(Files(), {}, [])
    record.results({"scores": {}})
    assert json.loads((tmp_path / "results.json").read_text()) == {"scores": {}}


# In a process of its own, because W&B reads the environment once.
LOOK_FOR_A_LOGIN = """
import os, pathlib
from unlearn_runner.tracking.wandb import Wandb

netrc = pathlib.Path.home() / ".netrc"
print(Wandb()._online())
netrc.write_text("machine elsewhere login user password x\\n")
print(Wandb()._online())
netrc.write_text("machine api.wandb.ai login user password x\\n")
print(Wandb()._online(), Wandb(mode="offline")._online())
os.environ["WANDB_MODE"] = "offline"
print(Wandb()._online(), Wandb(mode="online")._online())
"""


def test_auto_asks_the_environment_and_the_netrc(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("WANDB_MODE", "WANDB_API_KEY", "WANDB_IDENTITY_TOKEN_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("WANDB_BASE_URL", "https://api.wandb.ai")
    done = subprocess.run(
        [sys.executable, "-c", LOOK_FOR_A_LOGIN], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["False", "False", "True", "False", "False", "True"]


# --- small parts


def test_redaction(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_TOKEN", "abcdefghij")
    monkeypatch.setenv("EMPTY_TOKEN", "")
    monkeypatch.setenv("SHORT_KEY", "gd")
    content = {
        "path": "https://me:pw@host/x?abcdefghij",
        "hf_token": "whatever",
        "api_key": None,
        "list": ["abcdefghij", 1, None, True],
        "max_new_tokens": 200,
        "key": "a1b2",
        "method": "gd",
    }
    assert redacted(content) == {
        "path": "https://***@host/x?***",
        "hf_token": HIDDEN,
        "api_key": None,
        "list": [HIDDEN, 1, None, True],
        "max_new_tokens": 200,
        "key": "a1b2",
        "method": "gd",
    }


def test_the_table_puts_the_models_side_by_side() -> None:
    scores = {"model_utility": 0.5, "forget.rouge_l": 0.1, "target.model_utility": 0.7}
    scores |= {"retain_model.model_utility": None}
    assert table(scores) == [
        ("model_utility", 0.7, 0.5, None),
        ("forget.rouge_l", None, 0.1, None),
    ]
