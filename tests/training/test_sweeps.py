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
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

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
SIXTEEN = ("rectifier.gamma=0.1,0.3,0.5,0.9", "rectifier.tau=0.001,0.1,1,10")


@dataclass
class Sweep:
    """An outputs folder of its own, and the command that is repeated in it."""

    outputs: Path
    axes: tuple[str, ...] = FOUR
    more: tuple[str, ...] = ()
    cut_short: set[str] = field(default_factory=set)
    """Unlearn stages that were under way at a kill."""

    def start(self, *more: str) -> subprocess.Popen[str]:
        given = (*SETTINGS, *self.axes, *self.more, *more, f"output_dir={self.outputs}")
        return subprocess.Popen(
            [sys.executable, "-m", "unlearn_runner.run", *given],
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def run(self, *more: str, code: int = 0) -> str:
        """Repeats the command; returns what it said."""
        process = self.start(*more)
        said = process.communicate(timeout=400)[0]
        assert process.returncode == code, said
        return said

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

    def kill(self, process: subprocess.Popen[str]) -> None:
        """Ends the command and all its children at once, and notes what was under way."""
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        self.cut_short |= self.under_way().keys()

    def kill_within(self, unlearned: int, step: int) -> None:
        """Kills the command in the unlearn stage after so many, once a step of it is saved."""
        process = self.start()
        while process.poll() is None:
            reached = max(self.under_way().values(), default=0)
            if self.count("unlearn") >= unlearned and reached >= step:
                break
            time.sleep(0.002)
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


def test_the_same_command_runs_new_points_only(whole: Sweep) -> None:
    before = whole.published()
    folders = {p: p.stat().st_mtime_ns for p in whole.folder.glob("*/*.json*")}
    assert "4 jobs, 4 need nothing, 0 to run" in whole.run()
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
def test_sixteen_points_killed_ten_times_end_at_the_same_scores(tmp_path: Path) -> None:
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
    assert len(sweep.cut_short) >= 5
    sweep.run()
    assert_same(sweep, whole, finished)


def assert_same(sweep: Sweep, whole: Sweep, finished: dict[str, int]) -> None:
    after = sweep.published()
    assert {name: after[name] for name in finished} == finished, "nothing was made twice"
    assert after.keys() == {n for n in whole.published() if n in after}
    assert set(sweep.statuses()) == {"completed"}
    assert sweep.scores() == whole.scores()


@pytest.mark.long
def test_jobs_at_once_share_each_stage_and_outlive_the_one_that_makes_it(
    whole: Sweep, tmp_path: Path
) -> None:
    """Four processes on an empty store; the first one that trains a shared stage is killed."""
    sweep = Sweep(tmp_path, more=("cluster=local", "cluster.jobs=4"))
    process = sweep.start()
    owner = None
    while owner is None and process.poll() is None:
        for note in (tmp_path / "store").glob("[pf]*/.*.owner"):
            with suppress(OSError, ValueError):
                owner = int(json.loads(note.read_text())["pid"])
        time.sleep(0.002)
    assert owner is not None
    assert owner != process.pid
    os.kill(owner, signal.SIGKILL)
    said = process.communicate(timeout=400)[0]
    assert process.returncode == 1, said
    assert "4 jobs: 3 completed, 1 failed" in said
    assert "killed by SIGKILL" in said
    made: dict[str, int] = {}
    for log in sweep.folder.glob("*/log.txt"):
        for address in re.findall(r"(?:pretrain|finetune)/\w+  (?!cached)\d", log.read_text()):
            made[address] = made.get(address, 0) + 1
    assert sorted(made.values()) == [1, 1, 1]
    assert (sweep.count("pretrain"), sweep.count("finetune")) == (1, 2)

    ended = sweep.scores()
    assert len(ended) == 3
    assert ended == {name: whole.scores()[name] for name in ended}
