"""Interrupted and killed runs, continued by the same command, end at the same bits.

Real processes, real signals, an empty store per run. The comparison is with a run that nobody
disturbed, on the same number of threads.
"""

from __future__ import annotations

import itertools
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from helpers.pausing import HANGS, Pause

STEPS, EVERY = 60, 4
SETTINGS = (
    *("debug=tiny", "method=npo", "method.retain.loss=nll", "rectifier=gru", "rectifier.gamma=0.3"),
    *(f"target.train.steps={STEPS}", f"target.train.checkpoint_every={EVERY}"),
    *(f"train.steps={STEPS}", f"train.checkpoint_every={EVERY}", "train.lr=3e-3"),
    *("parallel.threads=1", "parallel.device=cpu", "name=run"),
)
"""NPO asks for start log-probabilities, and 0.3 of the newest gradient makes GRU's mean matter."""
DYING = str(Path(__file__).with_name("dying.py"))


@dataclass
class Place:
    """An outputs folder of its own, and the command that is repeated in it."""

    folder: Path
    more: tuple[str, ...] = ()
    deaths: list[str] = field(default_factory=list)

    def start(self, *dying: str, **env: str) -> subprocess.Popen[str]:
        program = [DYING, *dying] if dying else ["-m", "unlearn_runner.run"]
        return subprocess.Popen(
            [sys.executable, *program, *SETTINGS, *self.more, f"output_dir={self.folder}"],
            env={**os.environ, "OMP_NUM_THREADS": "1", **env},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def finish(self) -> str:
        """Lets the command run to its end; returns what it said."""
        process = self.start()
        said = process.communicate(timeout=HANGS)[1]
        assert process.returncode == 0, said
        return said

    def die(self, place: str, kind: str, count: int) -> None:
        """Repeats the command until it dies at a moment."""
        process = self.start(place, kind, str(count))
        said = process.communicate(timeout=HANGS)[1]
        assert process.returncode == -signal.SIGKILL, f"{place} of {kind} never came: {said}"
        self.deaths.append(f"{kind}: {place}")

    def at_step(
        self, kind: str, step: int, number: int, after: float | None = None
    ) -> tuple[int, str]:
        """Sends a signal to the command once a stage of a kind has logged a step.

        Args:
            kind: Of the stage.
            step: Which.
            number: Of the signal.
            after: Seconds for which the command runs on before the signal, to wherever it gets; it
                is sent while the command is held when none.

        Returns:
            The exit code, and what it said.
        """
        pauses = self.folder.with_name(f"{self.folder.name}-pauses")
        pauses.mkdir(exist_ok=True)
        pause = Pause(pauses / f"{len(list(pauses.iterdir()))}", kind, step)
        process = self.start(**pause.environment)
        assert pause.reached(process), process.communicate()[1]
        if after is None:
            process.send_signal(number)
            pause.go()
        else:
            pause.go()
            time.sleep(after)
            process.send_signal(number)
        said = process.communicate(timeout=HANGS)[1]
        if process.returncode:
            self.deaths.append(f"{kind}: at step {self.step(kind)}")
        return process.returncode, said

    def anywhere(self, kind: str, rng: random.Random) -> None:
        """Kills the command at a moment of nobody's choice within a stage of a kind.

        A kill that comes when the stage is over is taken back, and comes sooner.
        """
        before = self.folder.with_name(f"{self.folder.name}-before")
        for attempt in itertools.count():
            shutil.copytree(self.folder, before)
            step = min(self.saved(kind) + rng.randrange(1, 8), STEPS - 10)
            after = rng.uniform(0, 0.3 / 2**attempt)
            code, _ = self.at_step(kind, step, signal.SIGKILL, after)
            if code == -signal.SIGKILL and not self.published(kind):
                shutil.rmtree(before)
                return
            if code:
                self.deaths.pop()
            shutil.rmtree(self.folder)
            before.rename(self.folder)

    def published(self, kind: str) -> int:
        """How many artifacts of a kind are finished."""
        return len(list((self.folder / "store" / kind).glob("[!.]*/manifest.json")))

    def step(self, kind: str) -> int:
        """The last step that a stage of a kind has logged, finished or not."""
        found = [0]
        for path in (self.folder / "store" / kind).glob(".*.partial/checkpoints/metrics.jsonl"):
            found += [line["step"] for line in lines(path)]
        return max(found) if self.published(kind) == 0 else STEPS

    def saved(self, kind: str) -> int:
        """The step of the newest checkpoint of a stage that is not finished."""
        notes = (self.folder / "store" / kind).glob(".*.partial/checkpoints/step-*.json")
        return max((int(note.stem[5:]) for note in notes), default=0)

    def artifacts(self) -> dict[str, bytes]:
        """Every file that was computed; manifests and telemetry hold times, cards commands."""
        store = self.folder / "store"
        return {
            str(path.relative_to(store)): path.read_bytes()
            for path in sorted(store.glob("*/[!.]*/**/*"))
            if path.is_file() and path.name not in ("manifest.json", "metrics.jsonl", "README.md")
        }

    def json(self, name: str) -> dict[str, Any]:
        return json.loads((self.folder / "runs" / "run" / name).read_text())

    def telemetry(self) -> list[dict[str, Any]]:
        """The run's lines without what a clock says."""
        found = lines(self.folder / "runs" / "run" / "metrics.jsonl")
        return [{k: v for k, v in line.items() if k != "tokens_per_s"} for line in found]


def lines(path: Path) -> list[dict[str, Any]]:
    """The whole lines of a file that a process may be writing to."""
    try:
        text = path.read_text()
    except OSError:
        return []
    return [json.loads(line) for line in text.split("\n")[:-1] if line.endswith("}")]


def seeded() -> random.Random:
    """Sampler that differ from run to run; pytest shows the seed of one that fails."""
    seed = random.SystemRandom().randrange(10_000)
    print(f"seed {seed}")
    return random.Random(seed)


def assert_same(place: Place, whole: Place) -> None:
    assert set(place.artifacts()) == set(whole.artifacts())
    differ = [name for name, data in whole.artifacts().items() if place.artifacts()[name] != data]
    assert not differ, f"after {place.deaths}"
    assert place.json("results.json")["scores"] == whole.json("results.json")["scores"]
    assert place.telemetry() == whole.telemetry()
    assert place.json("status.json")["status"] == "completed"


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """The run that nobody disturbed."""
    place = Place(tmp_path_factory.mktemp("whole"))
    place.finish()
    return place


def test_the_undisturbed_run_is_what_these_tests_need(whole: Place) -> None:
    """It moves, GRU rectifies, and its mean is not the newest gradient."""
    steps = [line for line in whole.telemetry() if line["stage"] == "unlearn"]
    assert len(steps) == STEPS
    assert sum(line["rectified"] for line in steps) > 0
    kinds = {name.partition("/")[0] for name in whole.artifacts()}
    assert {"finetune", "unlearn", "start", "evaluate", "score"} <= kinds


def test_killed_three_times_it_ends_at_the_same_bits(whole: Place, tmp_path: Path) -> None:
    place = Place(tmp_path)
    place.die("checkpoint half written", "finetune", 5)
    assert place.saved("finetune") == 4 * EVERY
    place.die("artifact not yet published", "finetune", 1)
    rng = seeded()
    code, _ = place.at_step("unlearn", rng.randrange(10, 40), signal.SIGKILL)
    assert code == -signal.SIGKILL
    reached, saved = place.step("unlearn"), place.saved("unlearn")
    assert reached - saved <= EVERY + 1, "no more is lost than since the last checkpoint"
    assert saved > 0
    said = place.finish()
    assert "unlearn: " in said
    assert_same(place, whole)


@pytest.mark.parametrize(
    ("number", "kind"),
    [
        pytest.param(signal.SIGTERM, "finetune", marks=pytest.mark.long),
        pytest.param(signal.SIGUSR2, "unlearn", marks=pytest.mark.long),
        pytest.param(signal.SIGINT, "finetune", marks=pytest.mark.long),
        pytest.param(signal.SIGINT, "unlearn", marks=pytest.mark.long),
    ],
)
def test_a_signal_leaves_a_checkpoint_and_the_command_to_go_on(
    number: signal.Signals, kind: str, whole: Place, tmp_path: Path
) -> None:
    place = Place(tmp_path)
    step = seeded().randrange(5, STEPS - 20)
    code, said = place.at_step(kind, step, number)
    assert code == 128 + number, said
    status = place.json("status.json")
    assert (status["status"], status["signal"]) == ("interrupted", number.name)
    resume = f"unlearn {' '.join(SETTINGS)} output_dir={tmp_path}"
    assert status["resume"] == resume
    assert said.splitlines()[-1] == f"interrupted; to continue: {resume}"
    saved = place.saved(kind)
    assert saved == place.step(kind) >= step, "the step that was under way is the last"
    place.finish()
    logged = [line["step"] for line in place.telemetry() if line["stage"] == "unlearn"]
    assert logged == [*range(1, STEPS + 1)]
    assert_same(place, whole)


@pytest.mark.long
def test_killed_twenty_times_it_ends_at_the_same_bits(whole: Place, tmp_path: Path) -> None:
    rng = seeded()
    place = Place(tmp_path)
    place.die("checkpoint half written", "finetune", rng.randrange(1, 8))
    place.die("checkpoint without its note", "finetune", rng.randrange(1, 6))
    for _ in range(5):  # each gets a little further
        place.anywhere("finetune", rng)
    place.die("artifact not yet published", "finetune", 1)
    place.die("artifact just published", "finetune", 1)
    place.die("checkpoint without its note", "unlearn", rng.randrange(1, 6))
    place.die("checkpoint half written", "unlearn", rng.randrange(1, 6))
    for _ in range(5):
        place.anywhere("unlearn", rng)
    place.die("artifact not yet published", "unlearn", 1)
    place.die("artifact just published", "unlearn", 1)
    place.die("artifact not yet published", "evaluate", 2)
    place.die("artifact just published", "score", 1)
    assert len(place.deaths) == 20
    place.finish()
    assert_same(place, whole)
    assert sum(death.startswith("finetune") for death in place.deaths) >= 8
    assert sum(death.startswith("unlearn") for death in place.deaths) >= 8
