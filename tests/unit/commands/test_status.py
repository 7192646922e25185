"""`unlearn-status`: what it says of runs in every state, from the files that runs write."""

from __future__ import annotations

import io
import json
import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest
from rich.console import Console
from rich.progress import Progress

from unlearn_runner.commands.status import main
from unlearn_runner.report.run_folder import read
from unlearn_runner.report.status_table import duration, line, show
from unlearn_runner.tracking import record as records
from unlearn_runner.tracking.record import Record
from unlearn_runner.utils import progress
from unlearn_runner.utils.progress import Tick


@pytest.fixture(autouse=True)
def nobody_watches_afterwards() -> Iterator[None]:
    yield
    progress.watch(None)


def status(folder: Path) -> dict[str, object]:
    return json.loads((folder / "status.json").read_text())


def test_progress_reaches_the_status_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records, "BEAT", 0.0)
    record = Record(tmp_path / "run")
    record.status("running", stage="unlearn", number=4, of=10)
    tick = Tick("unlearn", 50, Progress(disable=True))
    tick.resume(20)
    tick(5)
    tick(5)
    told = status(tmp_path / "run")
    assert told["status"] == "running"
    assert told["stage"] == "unlearn"
    found = told["progress"]
    assert isinstance(found, dict)
    assert (found["work"], found["done"], found["of"]) == ("unlearn", 30, 50)
    shown = line(read(tmp_path / "run"), datetime.now(UTC))
    assert (shown.doing, shown.step, shown.status) == ("unlearn (4/10)", "30/50", "running")
    assert shown.rate.endswith("/s")
    record.status("completed")
    tick(1)
    assert "progress" not in status(tmp_path / "run")
    assert status(tmp_path / "run")["status"] == "completed"


def test_progress_is_written_every_other_second_not_every_tick(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [1000.0]
    monkeypatch.setattr(records, "time", SimpleNamespace(monotonic=lambda: now[0]))
    record = Record(tmp_path)
    record.status("running", stage="unlearn")
    tick = Tick("unlearn", 1000, Progress(disable=True))

    def done() -> int:
        found = status(tmp_path)["progress"]
        assert isinstance(found, dict)
        return found["done"]

    tick()
    assert done() == 1
    for _ in range(100):
        now[0] += 0.0199
        tick()
        assert done() == 1
    now[0] += 0.0101
    tick()
    assert done() == 102


def test_a_disk_that_refuses_progress_does_not_end_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(records, "BEAT", 0.0)
    record = Record(tmp_path / "run")
    record.status("running", stage="unlearn")
    (tmp_path / "run" / "status.json").unlink()
    (tmp_path / "run").rmdir()
    Tick("unlearn", 3, Progress(disable=True))()


def job(folder: Path, **facts: object) -> None:
    folder.mkdir(parents=True)
    usual = {
        "pid": os.getpid(),
        "host": socket.gethostname(),
        "updated": "2026-11-24T10:00:00+00:00",
    }
    (folder / "status.json").write_text(json.dumps({**usual, **facts}))


def test_every_state_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    done = subprocess.Popen([sys.executable, "-c", ""])
    done.wait()
    beat = {"work": "unlearn", "done": 10, "of": 50, "rate": 0.5}
    job(tmp_path / "a-b-c,x=1", status="running", stage="unlearn", number=4, of=9, progress=beat)
    job(tmp_path / "a-b-c,x=2", status="waiting", waits_for="target (finetune/0123)")
    job(tmp_path / "a-b-c,x=3", status="running", pid=done.pid)
    job(tmp_path / "a-b-c,x=4", status="running", pid=done.pid, host="elsewhere")
    job(tmp_path / "a-b-c,x=5", status="failed", error="OSError: no space [left] on device")
    job(tmp_path / "a-b-c,x=6", status="diverged")
    told = {"stage": "unlearn", "cause": "loss/forget is inf at step 7"}
    (tmp_path / "a-b-c,x=6" / "results.json").write_text(json.dumps({"divergence": told}))
    job(tmp_path / "a-b-c,x=7", status="completed")
    assert main([str(tmp_path), "--once"]) == 0
    out = capsys.readouterr().out
    told = "2 running, 1 waiting, 1 failed, 1 interrupted, 1 diverged, 1 done"
    assert f"7 runs: {told}" in out
    rows = [row for row in out.splitlines() if row.startswith("│")]
    assert len(rows) == 7
    assert all(text in rows[0] for text in ("running", "unlearn (4/9)", "10/50", "0.5/s", "1m 20s"))
    assert "silent for" in rows[1]  # of another machine: its process cannot be looked at
    assert "target (finetune/0123)" in rows[2]
    assert "no space [left] on device" in rows[3]
    assert f"process {done.pid} is gone" in rows[4]
    assert "unlearn: loss/forget is inf at step 7" in rows[5]
    assert "done" in rows[6]


@pytest.mark.parametrize(("max_rows", "hidden"), [(-3, 3), (0, 3), (1, 2), (2, 1), (3, 0), (9, 0)])
def test_rows_without_room_are_counted(tmp_path: Path, max_rows: int, hidden: int) -> None:
    for number in range(3):
        job(tmp_path / f"r{number}", status="completed")
    out = Console(width=80, file=io.StringIO(), record=True)
    out.print(show([tmp_path], max_rows)[0])
    text = out.export_text()
    assert text.count("│ done") == 3 - hidden
    assert re.findall(r"and (.*) more", text) == ([str(hidden)] if hidden else [])


def test_a_run_of_before_causes_were_recorded_says_its_step(tmp_path: Path) -> None:
    job(tmp_path / "r", status="diverged")
    old = json.dumps({"stage": "unlearn", "step": 7, "diverged": True})
    (tmp_path / "r" / "metrics.jsonl").write_text(old + '\n{"stage": "unl')
    note = line(read(tmp_path / "r"), datetime.now(UTC)).note
    assert note == "unlearn: a loss or the gradient is not finite at step 7"


def test_a_job_that_goes_on_is_not_silent(tmp_path: Path) -> None:
    now = datetime.now(UTC)
    job(tmp_path / "r", status="running", updated=(now - timedelta(minutes=1)).isoformat())
    assert line(read(tmp_path / "r"), now).note == ""


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4, "0s"), (59.6, "1m 00s"), (80, "1m 20s"), (3725, "1h 02m"), (90061, "1d 01h")],
)
def test_durations_read(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_mistakes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "status.json").write_text("{")
    wrong = (["--once"], [str(tmp_path / "no")], [str(tmp_path)], [str(tmp_path), "--every", "0"])
    for arguments in wrong:
        assert main(list(arguments)) == 2
        told = capsys.readouterr().err.splitlines()
        assert len(told) == 2
        assert told[0].startswith("error: ")
