"""The store: whole artifacts or none, computed once, whoever asks and whoever is killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import pytest

from unlearn_runner.distributed.single import Single
from unlearn_runner.pipeline.execute import Executor, StageResult
from unlearn_runner.pipeline.stages.base import Stage, StageContext
from unlearn_runner.store import store as store_module
from unlearn_runner.store.artifact import Outcome
from unlearn_runner.store.keys import INERT
from unlearn_runner.store.store import MANIFEST, Building, Store
from unlearn_runner.tracking.folder import METRICS, last_by_step
from unlearn_runner.tracking.record import Record
from unlearn_runner.utils.files import append_line

HANGS = 120.0
"""Seconds after which a test would rather fail than wait."""


@dataclass(frozen=True)
class Slow(Stage):
    """Counts its runs in a file, takes its time, leaves two files."""

    text: str = "hello"
    counter: Path = field(default=Path("counter"), metadata=INERT)
    seconds: float = field(default=0.0, metadata=INERT)

    kind: ClassVar[str] = "slow"

    def run(self, context: StageContext) -> Outcome:
        with self.counter.open("a") as file:
            file.write(f"{os.getpid()}\n")
        context.log({"stage": self.label, "step": 1})
        time.sleep(self.seconds)
        (context.folder / "text").write_text(self.text)
        (context.folder / "inner").mkdir()
        (context.folder / "inner" / "more").write_text(self.text * 2)
        return "completed"


def ensure(stage: Stage, store: Store, record: Record) -> StageResult:
    """Has a stage's artifact made or found; the stage needs no device."""
    return Executor(store, record, Single()).ensure_artifact(stage)


def bring(root: Path, who: str, seconds: float = 0.0) -> bool:
    """Brings the stage about; whether it was found rather than computed."""
    stage = Slow("slow", counter=root / "counter", seconds=seconds)
    done = ensure(stage, Store(root / "store"), Record(root / who))
    assert done.outcome == "completed"
    return done.cached


def runs(root: Path) -> int:
    path = root / "counter"
    return len(path.read_text().splitlines()) if path.exists() else 0


def start(root: Path, who: str, seconds: float, prelude: str = "") -> subprocess.Popen[str]:
    """Another process that wants the same artifact and says whether it found it."""
    code = (
        f"{prelude}\nimport sys; from pathlib import Path; import test_store\n"
        "root, who, seconds = sys.argv[1:]\n"
        "print(test_store.bring(Path(root), who, float(seconds)))"
    )
    here = [str(Path(__file__).parent), os.environ.get("PYTHONPATH")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, here))}
    command = [sys.executable, "-c", code, str(root), who, str(seconds)]
    return subprocess.Popen(command, env=environment, text=True, stdout=subprocess.PIPE)


def wait_until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + HANGS
    while not condition():
        assert time.monotonic() < end, f"nothing happened within {HANGS:g} seconds"
        time.sleep(0.02)


# What a process says on its error stream is read like its answer.
TOGETHER = "import sys; sys.stderr = sys.stdout"


def waits(process: subprocess.Popen[str]) -> None:
    """Returns once a process has said that it waits; until it no longer does it says no more."""
    assert process.stdout is not None
    said = iter(process.stdout.readline, "")
    assert any(line.startswith("waiting for slow ") for line in said)


def answer(process: subprocess.Popen[str]) -> str:
    """The last line of what a process says until its end."""
    return process.communicate(timeout=HANGS)[0].splitlines()[-1]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


@pytest.fixture
def stage(tmp_path: Path) -> Slow:
    return Slow("slow", counter=tmp_path / "counter")


def build(store: Store, stage: Stage) -> Building:
    building = store.begin(stage)
    (building.folder / "text").write_text("hello")
    (building.folder / "inner").mkdir()
    (building.folder / "inner" / "more").write_text("hellohello")
    return building


def publish(store: Store, stage: Stage) -> Path:
    store.publish(stage, build(store, stage), "completed", {"seconds": 1.5})
    return store.path(stage)


# --- publishing


def test_a_published_artifact_is_a_hit_with_all_its_files_listed(store: Store, stage: Slow) -> None:
    assert store.manifest(stage) is None
    assert not store.fault(stage), "nothing is there, so nothing is damaged"
    folder = publish(store, stage)
    manifest = store.manifest(stage)
    assert manifest is not None
    assert not store.fault(stage)
    assert folder == store.root / "slow" / stage.key
    assert {name: entry["size"] for name, entry in manifest["files"].items()} == {
        "inner/more": 10,
        "text": 5,
    }
    # sha256 of "hello"
    assert manifest["files"]["text"]["sha256"].startswith("2cf24dba5fb0a30e26e83b2ac5b9e29e")
    assert manifest["outcome"] == "completed"
    assert manifest["seconds"] == 1.5
    assert manifest["key"] == stage.key
    assert manifest["settings"] == {"text": "hello"}


def test_publishing_leaves_nothing_else_behind(store: Store, stage: Slow) -> None:
    folder = publish(store, stage)
    assert {p.name for p in folder.parent.iterdir()} == {stage.key}
    assert {p.name for p in folder.iterdir()} == {MANIFEST, "text", "inner"}


@pytest.mark.parametrize("broken", ["write_json", "_digest"])
def test_the_manifest_comes_last_and_without_it_nothing_is_visible(
    store: Store, stage: Slow, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    building = build(store, stage)
    seen: list[set[str]] = []

    def fail(*_: object) -> None:
        seen.append({p.name for p in building.folder.rglob("*") if p.is_file()})
        raise OSError("disk full")

    with monkeypatch.context() as patch:
        patch.setattr(store_module, broken, fail)
        with pytest.raises(OSError, match="disk full"):
            store.publish(stage, building, "completed", {})
    assert seen == [{"text", "more"}]
    assert not store.path(stage).exists()
    assert store.manifest(stage) is None
    assert not store.fault(stage)


def test_two_settings_two_artifacts(store: Store, stage: Slow, tmp_path: Path) -> None:
    publish(store, stage)
    assert store.manifest(Slow("slow", text="other")) is None
    renamed = Slow("another label", counter=tmp_path / "x", seconds=3.0)
    assert store.manifest(renamed) is not None, "what is inert makes no other artifact"


# --- damage


def overwrite(path: Path, text: str) -> None:
    path.write_text(text)


def truncate(path: Path) -> None:
    path.write_text(path.read_text()[:-1])


DAMAGE: dict[str, Callable[[Path], None]] = {
    "a truncated file": lambda folder: truncate(folder / "text"),
    "a truncated file in a folder": lambda folder: truncate(folder / "inner" / "more"),
    "a file that grew": lambda folder: overwrite(folder / "text", "hello!"),
    "a missing file": lambda folder: (folder / "text").unlink(),
    "no manifest": lambda folder: (folder / MANIFEST).unlink(),
    "a truncated manifest": lambda folder: overwrite(folder / MANIFEST, '{"files": {'),
    "an empty manifest": lambda folder: overwrite(folder / MANIFEST, "{}"),
    "a manifest of something else": lambda folder: overwrite(folder / MANIFEST, "[]"),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_artifact_is_no_hit_and_is_computed_again(
    store: Store,
    stage: Slow,
    tmp_path: Path,
    damage: Callable[[Path], None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert bring(tmp_path, "first") is False
    damage(store.path(stage))
    assert store.manifest(stage) is None
    assert store.fault(stage)
    assert bring(tmp_path, "second") is False
    assert f"{store.path(stage)} is damaged" in capsys.readouterr().err
    assert not store.fault(stage)
    assert (store.path(stage) / "text").read_text() == "hello"
    assert bring(tmp_path, "third") is True
    assert runs(tmp_path) == 2


def flip(path: Path) -> None:
    """Changes one bit, and puts the times back: as a failing disk would."""
    stat = path.stat()
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


@pytest.mark.parametrize("name", ["text", "inner/more", MANIFEST])
def test_a_flipped_bit_in_any_small_file_is_noticed_at_once(
    name: str, store: Store, stage: Slow
) -> None:
    folder = publish(store, stage)
    flip(folder / name)
    assert store.manifest(stage) is None
    assert name in store.fault(stage)


def test_every_bit_of_a_manifest_matters(store: Store, stage: Slow) -> None:
    path = publish(store, stage) / MANIFEST
    sound = path.read_bytes()
    for place in range(len(sound)):
        path.write_bytes(sound[:place] + bytes([sound[place] ^ 1]) + sound[place + 1 :])
        assert store.manifest(stage) is None, sound[place - 20 : place + 20]
    path.write_bytes(sound)
    assert store.manifest(stage) is not None


def test_a_large_file_is_hashed_when_it_is_loaded_or_verified(
    store: Store, stage: Slow, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_module, "SMALL", 8)
    folder = publish(store, stage)
    flip(folder / "inner" / "more")
    monkeypatch.setattr(store_module, "_digests", {})  # as a process that has just begun
    assert store.manifest(stage) is not None, "its size is right"
    assert Store(store.root, verify=True).manifest(stage) is None
    monkeypatch.setattr(store_module, "_digests", {})
    assert store.manifest(stage, load=True) is None
    assert store.manifest(stage) is None, "what has been found out is not forgotten"
    assert store.fault(stage) == "inner/more has other bytes than were written (sha256 differs)"


def test_an_artifact_under_another_key_is_not_that_artifact(store: Store, stage: Slow) -> None:
    other = Slow("slow", text="other")
    publish(store, stage).rename(store.path(other))
    assert store.manifest(other) is None
    assert stage.key in store.fault(other)


def test_a_damaged_artifact_is_replaced_under_the_eyes_of_a_reader(
    store: Store, stage: Slow
) -> None:
    folder = publish(store, stage)
    (folder / "inner" / "more").unlink()
    with (folder / "text").open() as reader:
        publish(store, stage)
        assert reader.read() == "hello"
    assert store.manifest(stage) is not None
    assert {p.name for p in folder.parent.iterdir()} == {stage.key}


# --- an attempt that did not end


def test_a_new_attempt_keeps_checkpoints_and_nothing_else(store: Store, stage: Slow) -> None:
    first = build(store, stage)
    (first.checkpoints / "checkpoint.pt").write_text("step 6")
    second = store.begin(stage)
    assert second == first
    assert (second.checkpoints / "checkpoint.pt").read_text() == "step 6"
    assert list(second.folder.iterdir()) == []
    assert store.manifest(stage) is None
    store.publish(stage, second, "completed", {})
    assert list(store.begin(stage).checkpoints.iterdir()) == [], "published: no longer needed"


def test_a_stage_that_fails_publishes_nothing_and_frees_its_lock(
    store: Store, tmp_path: Path
) -> None:
    class Failing(Slow):
        def run(self, context: StageContext) -> Outcome:
            (context.folder / "text").write_text("half")
            raise RuntimeError("no memory")

    stage = Slow("slow")
    failing = Failing("slow")
    failing.__dict__["_key"] = stage.key  # a cached property: the same artifact
    with pytest.raises(RuntimeError, match="no memory"):
        ensure(failing, store, Record(tmp_path / "run"))
    assert not store.path(stage).exists()
    assert bring(tmp_path, "again") is False
    assert (store.path(stage) / "text").read_text() == "hello"


# --- several processes


def test_two_processes_that_want_the_same_compute_it_once(tmp_path: Path) -> None:
    both = [start(tmp_path, f"run{i}", seconds=1.0) for i in range(2)]
    answers = [answer(process) for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert sorted(answers) == ["False", "True"], "one computed it, the other found it"
    assert runs(tmp_path) == 1


def test_another_artifact_does_not_wait(store: Store, stage: Slow, tmp_path: Path) -> None:
    other = Slow("slow", text="other", counter=tmp_path / "counter")
    with store.locked(stage):
        done = ensure(other, store, Record(tmp_path / "run"))
    assert done.outcome == "completed"


def test_a_killed_owner_is_taken_over(store: Store, stage: Slow, tmp_path: Path) -> None:
    owner = start(tmp_path, "owner", seconds=10 * HANGS)
    wait_until(lambda: runs(tmp_path) == 1)
    waiting = start(tmp_path, "waiting", 0.0, TOGETHER)
    waits(waiting)
    assert runs(tmp_path) == 1, "the lock is held for as long as its owner lives"
    owner.send_signal(signal.SIGKILL)
    owner.communicate(timeout=HANGS)
    assert answer(waiting) == "False"
    assert waiting.returncode == 0
    assert runs(tmp_path) == 2
    assert (store.path(stage) / "text").read_text() == "hello"
    # What both attempts logged as step 1 is told once.
    lines = (store.path(stage) / METRICS).read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [1]


# As on a network file system without such locks.
NO_FLOCK = """
import errno, fcntl

def flock(*_):
    raise OSError(errno.ENOSYS, "Function not implemented")

fcntl.flock = flock
"""


def test_a_killed_owner_is_taken_over_where_there_is_no_flock(tmp_path: Path) -> None:
    owner = start(tmp_path, "owner", 10 * HANGS, NO_FLOCK)
    wait_until(lambda: runs(tmp_path) == 1)
    waiting = start(tmp_path, "waiting", 0.0, NO_FLOCK + TOGETHER)
    waits(waiting)
    assert runs(tmp_path) == 1
    owner.kill()
    owner.communicate(timeout=HANGS)
    assert answer(waiting) == "False"
    assert runs(tmp_path) == 2


def test_a_waiting_process_says_for_what_and_for_whom_again_and_again(
    store: Store, stage: Slow, tmp_path: Path
) -> None:
    quick = "import unlearn_runner.utils.locks as locks; locks.SAY_EVERY_S = 0.2"
    with store.locked(stage):
        waiting = start(tmp_path, "waiting", 0.0, f"{quick}\n{TOGETHER}")
        assert waiting.stdout is not None
        said = [waiting.stdout.readline() for _ in range(3)]
    waiting.communicate(timeout=HANGS)
    who, what = f"process {os.getpid()} (since", f"waiting for slow (slow/{stage.key})"
    assert all(who in line and what in line for line in said), said
    assert [line.startswith("still") for line in said] == [False, True, True]
    assert not list(store.root.glob("slow/.*.owner"))


# --- telemetry


def telemetry(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in last_by_step(path)]


def test_a_resumed_stage_tells_each_step_once_and_the_last_time(tmp_path: Path) -> None:
    path = tmp_path / METRICS
    for step in (1, 2, 3, 4):  # killed after 4, with a checkpoint at 2
        append_line(path, {"step": step, "loss": float(step)})
    for step in (3, 4, 5):
        append_line(path, {"step": step, "loss": 10.0 * step})
    found = telemetry(path)
    assert [line["step"] for line in found] == [1, 2, 3, 4, 5]
    assert [line["loss"] for line in found] == [1.0, 2.0, 30.0, 40.0, 50.0]


def test_numbers_that_are_not_finite_are_null(tmp_path: Path) -> None:
    append_line(tmp_path / METRICS, {"step": 1, "loss": float("nan"), "all": [float("inf"), 1.0]})
    assert telemetry(tmp_path / METRICS) == [{"step": 1, "loss": None, "all": [None, 1.0]}]


def test_no_file_no_telemetry(tmp_path: Path) -> None:
    assert last_by_step(tmp_path / METRICS) == []


def test_the_line_a_kill_cut_off_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / METRICS
    append_line(path, {"step": 1})
    with path.open("a") as file:
        file.write('{"step": 2, "lo')
    assert telemetry(path) == [{"step": 1}]


def test_the_line_after_the_one_a_kill_cut_off_is_kept(tmp_path: Path) -> None:
    path = tmp_path / METRICS
    append_line(path, {"step": 1})
    with path.open("a") as file:
        file.write('{"step": 2, "lo')
    append_line(path, {"step": 2})
    append_line(path, {"step": 3})
    assert [line["step"] for line in telemetry(path)] == [1, 2, 3]
