"""A store and a disk that misbehave: what is damaged is noticed and made again, to the same bytes.

Each test damages a copy of one good store. Real processes where a process is the point.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from helpers.pausing import HANGS
from helpers.planning import plan_run

from unlearn_runner.api import compose
from unlearn_runner.config.root import Run
from unlearn_runner.errors import DataError
from unlearn_runner.pipeline.execute import Executor, StageResult
from unlearn_runner.store import store as store_module
from unlearn_runner.store.store import Store
from unlearn_runner.tracking.record import Record
from unlearn_runner.utils.disk import DiskError

TINY = ("debug=tiny", "parallel.threads=1", "parallel.device=cpu")
RUN = (sys.executable, "-m", "unlearn_runner.run", *TINY)
STAGES = ("base", "target", "unlearn", "evaluate unlearned", "score unlearned")


def environment(**more: str) -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1", **more}


def start(outputs: Path, *overrides: str, **env: str) -> subprocess.Popen[str]:
    """Starts a run in a process of its own."""
    return subprocess.Popen(
        [*RUN, f"output_dir={outputs}", *overrides],
        env=environment(**env),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def composed(*overrides: str) -> Run:
    return compose(*TINY, *overrides)


@dataclass(frozen=True)
class Place:
    """A store, and runs that use it in this process."""

    folder: Path

    def run(
        self, *overrides: str, record: Record | None = None, only: str = ""
    ) -> list[StageResult]:
        """Brings a run about; `only` ends the plan at the stage of that label."""
        run = composed(*overrides)
        stages = plan_run(run)
        if only:
            end = [s.label for s in stages.stages].index(only) + 1
            first, last = stages.stages[:end], stages.stages[end - 1 : end]
            stages = replace(stages, stages=first, scores={}, wanted=last)
        store = Store(self.folder / "store", run.verify)
        return Executor(store, record or Record(self.folder / "run"), run.parallel).run(stages)

    def entry(self, done: StageResult) -> Path:
        return self.folder / "store" / done.stage.kind / done.stage.key


def computed(done: list[StageResult]) -> set[str]:
    return {item.stage.label for item in done if not item.cached}


def bytes_of(folder: Path) -> dict[str, bytes]:
    """Every file of an artifact but the manifest (times) and the card (the run's name)."""
    return {
        path.name: path.read_bytes()
        for path in folder.iterdir()
        if path.name not in ("manifest.json", "metrics.jsonl", "README.md")
    }


def wait_until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + HANGS
    while not condition():
        assert time.monotonic() < end, f"nothing happened within {HANGS:g} seconds"
        time.sleep(0.01)


@pytest.fixture(scope="module")
def good(own_threads: None, tmp_path_factory: pytest.TempPathFactory) -> Place:
    place = Place(tmp_path_factory.mktemp("good"))
    place.run()
    return place


@pytest.fixture
def copy(good: Place, tmp_path: Path) -> Place:
    """A copy of the good store, to be damaged."""
    shutil.copytree(good.folder / "store", tmp_path / "store")
    return Place(tmp_path)


# --- damaged entries


def flip(path: Path) -> None:
    """Changes one bit in the middle, and puts the times back: as a failing disk would."""
    stat = path.stat()
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def largest(folder: Path) -> Path:
    return max(folder.iterdir(), key=lambda path: path.stat().st_size)


DAMAGE: dict[str, Callable[[Path], None]] = {
    "a flipped byte": lambda folder: flip(largest(folder)),
    "a truncated file": lambda folder: cut(largest(folder)),
    "no manifest": lambda folder: (folder / "manifest.json").unlink(),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_every_damaged_entry_is_noticed_and_made_again_to_the_same_bytes(
    damage: str, good: Place, copy: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    stages = {item.stage.label: item for item in copy.run()}
    assert computed(list(stages.values())) == set(), "the copy is whole"
    for label in STAGES:
        DAMAGE[damage](copy.entry(stages[label]))
    # Each is made again from its input, and nothing else is: the rest was whole.
    assert computed(copy.run("verify=true")) == set(STAGES)
    err = capsys.readouterr().err
    for label in STAGES:
        entry = copy.entry(stages[label])
        assert f"{entry} is damaged and is computed again: " in err
        assert bytes_of(entry) == bytes_of(good.entry(stages[label]))


def test_what_is_loaded_is_checked_without_being_asked_for(
    copy: Place, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(store_module, "SMALL", 50_000)  # as if the weights had gigabytes
    monkeypatch.setattr(store_module, "_digests", {})  # as a process that has just begun
    (target,) = (item for item in copy.run() if item.stage.label == "target")
    flip(copy.entry(target) / "model.safetensors")
    assert computed(copy.run()) == set(), "nothing loads it, and its size is right"
    assert computed(copy.run("seed=1", only="unlearn")) == {"target", "unlearn"}
    assert "model.safetensors has other bytes than were written" in capsys.readouterr().err


def test_verify_checks_what_nothing_loads(copy: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "SMALL", 50_000)
    monkeypatch.setattr(store_module, "_digests", {})
    (target,) = (item for item in copy.run() if item.stage.label == "target")
    flip(copy.entry(target) / "model.safetensors")
    assert computed(copy.run(only="target")) == set()
    assert computed(copy.run("verify=true", only="target")) == {"target"}


class Dying(Record):
    """Ends the run at the second step of unlearning, of which there is no checkpoint."""

    def line(self, facts: dict[str, Any], of_stage: Path | None = None) -> None:
        super().line(facts, of_stage)
        if (facts["stage"], facts["step"]) == ("unlearn", 2):
            raise KeyboardInterrupt


def test_a_checkpoint_of_another_configuration_is_refused_and_kept(copy: Place) -> None:
    """No command mixes them up, they lie under their stage's key; a person who copies one might."""
    mine, other = ((f"seed={n}", "train.checkpoint_every=1") for n in (8, 9))
    with pytest.raises(KeyboardInterrupt):
        copy.run(*mine, record=Dying(copy.folder / "run"))
    (place,) = copy.folder.glob("store/unlearn/.*.partial")
    (key,) = (stage.key for stage in plan_run(composed(*other)).stages if stage.kind == "unlearn")
    there = place.with_name(f".{key}.partial")
    shutil.copytree(place, there)
    with pytest.raises(DataError, match="is the checkpoint of another configuration") as refused:
        copy.run(*other, only="unlearn")
    assert f"not {key}" in refused.value.problem
    assert refused.value.fix.startswith(f"remove {there}")
    assert list(place.glob("checkpoints/*.pt"))
    assert list(there.glob("checkpoints/*.pt"))
    shutil.rmtree(there)  # as it says
    for how in (other, mine):
        assert computed(copy.run(*how, only="unlearn")) == {"unlearn"}


# --- several processes


@pytest.mark.long
def test_two_runs_at_once_compute_every_stage_once(good: Place, tmp_path: Path) -> None:
    both = [start(tmp_path, f"name=run{i}") for i in range(2)]
    said = [process.communicate(timeout=HANGS)[1] for process in both]
    assert [process.returncode for process in both] == [0, 0], "".join(said)
    folders = [tmp_path / "runs" / f"run{i}" for i in range(2)]
    results = [json.loads((folder / "results.json").read_text()) for folder in folders]
    made = [[s["key"] for s in found["stages"] if not s["cached"]] for found in results]
    assert sorted(made[0] + made[1]) == sorted(item.stage.key for item in good.run())
    assert results[0]["scores"] == results[1]["scores"]
    for item in good.run():
        assert bytes_of(Place(tmp_path).entry(item)) == bytes_of(good.entry(item))
    assert list((tmp_path / "store").glob("*/.*.owner")) == []


def named(note: Path) -> int | None:
    """The process that a lock's note names; none while it is being written."""
    try:
        return json.loads(note.read_text())["pid"]
    except (OSError, ValueError):
        return None


@pytest.mark.long
def test_a_killed_run_is_taken_over_at_once(good: Place, tmp_path: Path) -> None:
    # Takes so many steps in a stage that it is killed within it.
    long = ("target.train.steps=100000", "target.train.checkpoint_every=2", "target.train.lr=1e-9")
    # No retain model, or the second run would train that one in place of waiting.
    long = (*long, "~benchmark.metric.forget_quality")
    shutil.copytree(good.folder / "store" / "pretrain", tmp_path / "store" / "pretrain")
    partial = "store/finetune/.*.partial/checkpoints"
    owner = start(tmp_path, *long, "name=owner")
    wait_until(lambda: any(tmp_path.glob(f"{partial}/step-*.pt")))
    waiting = start(tmp_path, *long, "name=waiting")
    said = iter(waiting.stderr or ())
    assert any(f"process {owner.pid} (since" in line for line in said), "it says whom it waits for"
    (note,) = tmp_path.glob("store/finetune/.*.owner")
    owner.send_signal(signal.SIGKILL)
    wait_until(lambda: named(note) == waiting.pid)
    owner.communicate(timeout=HANGS)
    (lines,) = tmp_path.glob(f"{partial}/metrics.jsonl")
    before = lines.stat().st_size
    wait_until(lambda: lines.stat().st_size > before)
    waiting.kill()
    waiting.communicate(timeout=HANGS)


# --- a disk that refuses


@contextmanager
def most(size: int) -> Iterator[None]:
    """No file may have more bytes: the system refuses the rest, as a full disk does."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


# The weights have some 50 kB, a checkpoint with AdamW's moments three times that.
@pytest.mark.parametrize("size", [45_000, 120_000], ids=["artifact", "checkpoint"])
def test_a_file_that_cannot_grow_is_said_plainly_and_the_stage_goes_on_later(
    size: int, good: Place, copy: Place
) -> None:
    (unlearned,) = (item for item in good.run() if item.stage.label == "unlearn")
    shutil.rmtree(copy.entry(unlearned))
    with most(size), pytest.raises(DiskError) as refused:
        copy.run("train.checkpoint_every=1" if size > 100_000 else "train.checkpoint_every=200")
    assert str(copy.folder / "store" / "unlearn") in refused.value.problem
    assert "cannot be written: " in refused.value.problem
    assert "free on its disk" in refused.value.problem
    assert "unlearn-store gc" in refused.value.fix
    assert not copy.entry(unlearned).exists()
    copy.run(only="unlearn")
    assert bytes_of(copy.entry(unlearned)) == bytes_of(good.entry(unlearned))


def test_the_last_good_checkpoint_outlives_a_full_disk(good: Place, copy: Place) -> None:
    long = ("train.steps=8", "train.checkpoint_every=2", "train.lr=1e-3")
    (*_, whole) = good.run(*long, only="unlearn")

    class Filling(Record):
        def line(self, facts: dict[str, Any], *more: Any) -> None:
            super().line(facts, *more)
            if facts["step"] == 5:
                resource.setrlimit(resource.RLIMIT_FSIZE, (120_000, hard))

    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        with pytest.raises(DiskError, match="cannot be written"):
            copy.run(*long, only="unlearn", record=Filling(copy.folder / "full"))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    (*_, resumed) = copy.run(*long, only="unlearn", record=Record(copy.folder / "resumed"))
    lines = (copy.folder / "resumed" / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines if '"unlearn"' in line][-8:] == [
        *range(1, 9)
    ]
    assert bytes_of(copy.entry(resumed)) == bytes_of(good.entry(whole))


def told(done: subprocess.CompletedProcess[str]) -> str:
    """The two lines a person is told, behind what was said of progress."""
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    lines = [x for x in done.stderr.splitlines() if x.startswith(("error: ", "fix: "))]
    assert len(lines) == 2, done.stderr
    assert done.stderr.strip().splitlines()[-2:] == lines
    return done.stderr


def full_disk(folder: Path, kilobytes: int, command: list[str]) -> subprocess.CompletedProcess[str]:
    """Runs a command in whose eyes a folder is a disk of so many kB; skips where that is denied."""
    mount = f'mount -t tmpfs -o size={kilobytes}k tmpfs "$0" && exec "$@"'
    inside = ["unshare", "-rm", "sh", "-c", mount, str(folder)]
    try:
        subprocess.run([*inside, "true"], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("this machine does not let a test mount a small disk")
    status = f'"$@"; code=$?; cat "{folder}"/runs/*/status.json; exit $code'
    return subprocess.run(
        [*inside, "sh", "-c", status, "sh", *command],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=HANGS,
    )


@pytest.mark.parametrize(
    "kilobytes",
    [pytest.param(40, marks=pytest.mark.long), 300, pytest.param(520, marks=pytest.mark.long)],
)
def test_a_full_disk_ends_plainly(kilobytes: int, tmp_path: Path) -> None:
    """From room for a configuration alone, to room for a model and not for its evidence."""
    done = full_disk(tmp_path, kilobytes, [*RUN, f"output_dir={tmp_path}"])
    said = told(done)
    assert f"error: {tmp_path}" in said
    assert "No space left on device" in said or "took only a part" in said
    if kilobytes > 100:
        assert json.loads(done.stdout)["status"] == "failed"


@pytest.mark.parametrize("key", ["output_dir", "store"])
def test_a_folder_that_cannot_be_made_is_said_before_torch_and_nothing_is_lost(
    key: str, tmp_path: Path
) -> None:
    # Not by permissions: a test that runs as root may write everywhere.
    (tmp_path / "file").write_text("in the way")
    command = [*RUN, f"output_dir={tmp_path / 'out'}", f"{key}={tmp_path / 'file' / 'inside'}"]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=HANGS)
    assert str(tmp_path / "file") in told(done)
    assert (tmp_path / "file").read_text() == "in the way"
