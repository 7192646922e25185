"""Sweeps of the smallest model: what is skipped, what goes on, what is tried again.

Real processes and real kills; what they leave is compared with a sweep that nobody disturbed.
"""

from __future__ import annotations

import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from helpers.pausing import HANGS, Pause

STEPS, EVERY = 80, 4
SETTINGS = (
    *(
        "sweep=gru_gamma_tau",
        "debug=tiny",
        "method=ga",
        "parallel.threads=1",
        "parallel.device=cpu",
    ),
    *(f"train.steps={STEPS}", f"train.checkpoint_every={EVERY}", "train.lr=3e-3", "name=grid"),
)
GAMMAS, TAUS = "rectifier.gamma=0.1,0.9", "rectifier.tau=1,10"
FOUR = (GAMMAS, TAUS)
EIGHT = (GAMMAS, "rectifier.tau=0.001,0.1,1,10")
SIXTEEN = ("rectifier.gamma=0.1,0.3,0.5,0.9", "rectifier.tau=0.001,0.1,1,10")
COMPUTED = re.compile(r"^\[\d+/\d+\] .* (\w+/\w+)  \d+\.\ds", re.MULTILINE)


@dataclass
class Sweep:
    """An outputs folder of its own, and the command that is repeated in it."""

    outputs: Path
    axes: tuple[str, ...] = FOUR
    more: tuple[str, ...] = ()
    cut_short: set[str] = field(default_factory=set)
    """Unlearn stages that were under way at a kill."""
    kills: int = 0
    """Of commands that had not ended by themselves."""

    def start(self, *more: str, **env: str) -> subprocess.Popen[bytes]:
        given = (*SETTINGS, *self.axes, *self.more, *more, f"output_dir={self.outputs}")
        self.outputs.mkdir(parents=True, exist_ok=True)
        # A file: nobody reads a pipe while the command waits to be killed.
        with (self.outputs / f"said-{len(self.said()):02}.txt").open("wb") as said:
            return subprocess.Popen(
                [sys.executable, "-m", "unlearn_runner.run", *given],
                env={**os.environ, "OMP_NUM_THREADS": "1", **env},
                stdout=said,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def run(self, *more: str, code: int = 0) -> str:
        """Repeats the command; returns what it said."""
        return self.end(self.start(*more), code)

    def end(self, process: subprocess.Popen[bytes], code: int = 0) -> str:
        """Waits for the command that was started last; returns what it said."""
        process.wait(timeout=1800)
        said = self.said()[-1]
        assert process.returncode == code, said
        return said

    def said(self) -> list[str]:
        """What each command said, in their order."""
        return [path.read_text() for path in sorted(self.outputs.glob("said-*.txt"))]

    def computed(self) -> Counter[str]:
        """How often each stage was computed to its end, by the words of all commands and jobs."""
        logs = [path.read_text() for path in self.folder.glob("*/log.txt")]
        return Counter(found for text in (*self.said(), *logs) for found in COMPUTED.findall(text))

    @property
    def folder(self) -> Path:
        return self.outputs / "sweeps" / "grid"

    def found(self, name: str = "results.json") -> dict[str, dict[str, Any]]:
        return {p.parent.name: json.loads(p.read_text()) for p in self.folder.glob(f"*/{name}")}

    def statuses(self) -> list[str]:
        return [str(status["status"]) for _, status in sorted(self.found("status.json").items())]

    def scores(self) -> dict[str, Any]:
        return {name: results["scores"] for name, results in self.found().items()}

    def published(self) -> dict[str, int]:
        """When each artifact of the store was published, in ns."""
        paths = (self.outputs / "store").glob("*/[!.]*/manifest.json")
        return {f"{p.parts[-3]}/{p.parts[-2]}": p.stat().st_mtime_ns for p in paths}

    def count(self, kind: str) -> int:
        return sum(name.startswith(f"{kind}/") for name in self.published())

    def under_way(self) -> dict[str, int]:
        """The newest checkpoint of each unlearn stage that is not finished, by key."""
        newest: dict[str, int] = {}
        store = self.outputs / "store" / "unlearn"
        for note in store.glob(".*.partial/checkpoints/step-*.json"):
            key = note.parts[-3].removeprefix(".").removesuffix(".partial")
            if not (store / key / "manifest.json").exists():  # else it is about to be cleared away
                newest[key] = max(newest.get(key, 0), int(note.stem[5:]))
        return newest

    def kill(self, process: subprocess.Popen[bytes]) -> None:
        """Ends the command and all its children at once, and notes what was under way."""
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        self.kills += process.wait() == -signal.SIGKILL
        self.cut_short |= self.under_way().keys()

    def kill_within(self, unlearned: int, step: int) -> None:
        """Kills the command in the unlearn stage after so many, once a step of it is saved."""
        pauses = self.outputs.with_name(f"{self.outputs.name}-pauses")
        pauses.mkdir(exist_ok=True)
        pause = Pause(pauses / f"{len(list(pauses.iterdir()))}", "unlearn", step, unlearned)
        process = self.start(**pause.environment)
        assert pause.reached(process), self.said()[-1]
        self.kill(process)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Sweep:
    """The sweep that nobody disturbed."""
    sweep = Sweep(tmp_path_factory.mktemp("whole"))
    said = sweep.run()
    assert "4 jobs: 4 completed" in said
    return sweep


def test_a_sweep_shares_its_stages_and_its_points_differ(whole: Sweep) -> None:
    assert sorted(whole.found()) == [
        f"pocket-ga-gru,debug=tiny,rectifier.gamma={g},rectifier.tau={t},train.lr=3e-3,"
        f"train.steps={STEPS}"
        for g in (0.1, 0.9)
        for t in (1, 10)
    ]
    kinds = {kind: whole.count(kind) for kind in ("pretrain", "finetune", "unlearn", "evaluate")}
    assert kinds == {"pretrain": 1, "finetune": 2, "unlearn": 4, "evaluate": 6}
    assert len({json.dumps(s) for s in whole.scores().values()}) > 1


@pytest.mark.long
def test_the_same_command_runs_new_points_only(whole: Sweep) -> None:
    before = whole.published()
    folders = {p: p.stat().st_mtime_ns for p in whole.folder.glob("*/*.json*")}
    note = whole.folder.with_name(".grid.owner")
    note.write_text("{}")  # of a command that was killed after its last job
    assert "4 jobs, 4 need nothing, 0 to run" in whole.run()
    assert not note.exists()
    wider = Sweep(whole.outputs, (GAMMAS, "rectifier.tau=1,10,100"))
    said = wider.run()
    assert "6 jobs, 4 need nothing, 2 to run" in said
    assert "6 jobs: 6 completed" in said
    assert len(re.findall(r"\[job ./6\] .*rectifier.tau=100,.* begins", said)) == 2
    after = whole.published()
    assert {name: after[name] for name in before} == before
    assert {p: p.stat().st_mtime_ns for p in folders} == folders
    for path in whole.folder.glob("*tau=100,*/*"):  # the other tests expect four
        path.unlink()
    for path in whole.folder.glob("*tau=100,*"):
        path.rmdir()


def test_a_failure_stops_no_other_job_and_is_tried_again(whole: Sweep, tmp_path: Path) -> None:
    sweep = Sweep(tmp_path, FOUR, (f"store={whole.outputs / 'store'}",))
    names = sorted(whole.found())
    # Something in the way: the first job cannot leave its scores.
    (sweep.folder / names[0] / "results.json").mkdir(parents=True)
    said = sweep.run("sweep.fail_fast=true", code=2)
    assert "4 jobs: 1 failed, 3 waiting" in said
    assert sweep.statuses() == ["failed", "waiting", "waiting", "waiting"]

    said = sweep.run(code=2)
    assert "4 jobs: 3 completed, 1 failed" in said
    cause = next(line for line in said.splitlines() if line.startswith(f"failed   {names[0]}: "))
    assert "results.json" in cause
    assert sweep.statuses() == ["failed", "completed", "completed", "completed"]

    (sweep.folder / names[0] / "results.json").rmdir()
    assert "4 jobs, 3 need nothing, 1 to run" in sweep.run()
    assert sweep.scores() == whole.scores()


def test_a_mistake_in_one_point_costs_that_point(whole: Sweep, tmp_path: Path) -> None:
    store = f"store={whole.outputs / 'store'}"
    sweep = Sweep(tmp_path, ("rectifier.gamma=0.1,1.5", "rectifier.tau=1"), (store,))
    said = sweep.run(code=2)
    assert "2 jobs: 1 completed, 1 failed" in said
    assert "failed   rectifier.gamma=1.5" in said
    assert [path.is_dir() for path in sorted(sweep.folder.iterdir())] == [True, False]
    assert (sweep.folder / "selection.json").is_file()


@pytest.mark.long
def test_killed_twice_it_ends_at_the_same_scores(whole: Sweep, tmp_path: Path) -> None:
    sweep = Sweep(tmp_path)
    finished: dict[str, int] = {}
    for unlearned in range(4):  # a kill that comes too late for one job comes in the next
        if len(sweep.cut_short) == 2:
            break
        sweep.kill_within(unlearned, EVERY)
        now = sweep.published()
        assert {name: now[name] for name in finished} == finished, "nothing was made twice"
        finished = now
    assert len(sweep.cut_short) == 2
    done = len(sweep.found())
    said = sweep.run()
    if done:
        assert f"{done} need nothing, {4 - done} to run" in said
    assert_same(sweep, whole, finished)


@pytest.mark.long
def test_sixteen_points_killed_ten_times_end_at_the_same_scores(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    seed = random.SystemRandom().randrange(10_000)
    rng = random.Random(seed)
    print(f"seed {seed}")  # shown when it fails
    whole, sweep = Sweep(tmp_path / "whole", SIXTEEN), Sweep(tmp_path / "killed", SIXTEEN)
    whole.run()
    finished: dict[str, int] = {}
    for unlearned in (0, 0, 1, 3, 4, 6, 8, 10, 12, 14):  # where; when is a matter of chance
        sweep.kill_within(unlearned, rng.randrange(EVERY, STEPS - EVERY))
        now = sweep.published()
        assert {name: now[name] for name in finished} == finished, "nothing was made twice"
        finished = now
    assert sweep.kills == 10
    assert len(sweep.cut_short) >= 5
    sweep.run()
    assert_same(sweep, whole, finished)
    assert len(sweep.scores()) == 16
    with capsys.disabled():
        print(
            f"\nseed {seed}: {sweep.kills} kills, {len(sweep.cut_short)} unlearn stages cut short, "
            f"{len(finished)} of {len(sweep.published())} stages finished before the last command, "
            f"none computed twice, 16 of 16 jobs score as undisturbed ones"
        )


def assert_same(sweep: Sweep, whole: Sweep, finished: dict[str, int]) -> None:
    after = sweep.published()
    assert {name: after[name] for name in finished} == finished, "nothing was made twice"
    assert after.keys() == {n for n in whole.published() if n in after}
    assert set(sweep.computed().values()) == {1}, "nothing was computed twice"
    assert set(sweep.statuses()) == {"completed"}
    assert sweep.scores() == whole.scores()


@pytest.mark.long
def test_eight_jobs_at_once_share_each_stage_and_outlive_the_one_that_makes_it(
    whole: Sweep, tmp_path: Path
) -> None:
    """Eight processes on an empty store; the one that trains the first shared stage is killed."""
    sweep = Sweep(tmp_path, EIGHT, ("cluster=local", "cluster.jobs=8"))
    process = sweep.start()
    note, owner = first_owner(sweep, process)
    assert owner != process.pid
    # It holds the lock, and does nothing, until the other seven want it.
    os.kill(owner, signal.SIGSTOP)
    try:
        while len(waiting := waiting_for(sweep, owner)) < 7 and process.poll() is None:
            time.sleep(0.05)
    finally:
        os.kill(owner, signal.SIGKILL)
    assert len(waiting) == 7
    until = time.monotonic() + HANGS
    while owner_of(note) in (None, owner):
        assert time.monotonic() < until, "nobody took over from the killed owner"
        time.sleep(0.01)

    said = sweep.end(process, code=1)
    assert "8 jobs: 7 completed, 1 failed" in said
    assert "killed by SIGKILL" in said
    assert sorted(sweep.statuses()) == ["completed"] * 7 + ["failed"]
    made = {name: n for name, n in sweep.computed().items() if name[0] in "pf"}
    assert sorted(made.values()) == [1, 1, 1]
    shared = {kind: sweep.count(kind) for kind in ("pretrain", "finetune")}
    assert shared == {"pretrain": 1, "finetune": 2}

    before = sweep.published()
    assert "8 jobs, 7 need nothing, 1 to run" in sweep.run()
    after = sweep.published()
    assert {name: after[name] for name in before} == before
    assert (sweep.count("unlearn"), set(sweep.computed().values())) == (8, {1})
    ended = sweep.scores()
    assert len(ended) == 8
    assert {name: ended[name] for name in whole.scores()} == whole.scores()


def first_owner(sweep: Sweep, process: subprocess.Popen[bytes]) -> tuple[Path, int]:
    """Waits for a job that trains a shared stage; returns the lock's note and the job's process."""
    while process.poll() is None:
        for note in (sweep.outputs / "store").glob("[pf]*/.*.owner"):
            if (owner := owner_of(note)) is not None:
                return note, owner
        time.sleep(0.002)
    raise AssertionError(sweep.said()[-1])


def owner_of(note: Path) -> int | None:
    """The process that holds a lock."""
    with suppress(OSError, ValueError):
        return int(json.loads(note.read_text())["pid"])
    return None


def waiting_for(sweep: Sweep, owner: int) -> list[str]:
    """The jobs that have said that they wait for a process."""
    logs = {path.parent.name: path.read_text() for path in sweep.folder.glob("*/log.txt")}
    return [name for name, log in logs.items() if re.search(f"waiting for .*process {owner} ", log)]
