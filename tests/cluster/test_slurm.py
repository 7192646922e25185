"""Sweeps on a real SLURM, on this machine's loopback: arrays, preemption, time limits.

Skipped, with the reason, where SLURM's daemons cannot run.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from onenode import Missing, OneNode

pytestmark = pytest.mark.slurm

SETTINGS = ("debug=tiny", "method=ga", "parallel.device=cpu", "parallel.threads=1")
TWO_RANKS = ("parallel=ddp", "parallel.ranks=2")


@pytest.fixture(scope="module")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OneNode]:
    node = OneNode(tmp_path_factory.mktemp("slurm"))
    try:
        node.start()
    except (Missing, OSError, subprocess.SubprocessError) as error:
        node.stop()
        pytest.skip(f"no SLURM here: {error}")
    yield node
    node.stop()


@dataclass
class Place:
    """An outputs folder, and commands that work in it."""

    node: OneNode
    folder: Path

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "unlearn_runner.run", *arguments, f"output_dir={self.folder}"],
            env={**os.environ, **self.node.env, "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self, *arguments: str, code: int = 0) -> str:
        process = self.start(*arguments)
        said = process.communicate(timeout=1800)[0]
        assert process.returncode == code, said
        return said

    def finish(self, process: subprocess.Popen[str], seconds: float = 600) -> str:
        """Waits for a command while jobs that were put back start at once."""
        until = time.monotonic() + seconds
        while process.poll() is None and time.monotonic() < until:
            self.node.hurry()
            time.sleep(0.5)
        if process.poll() is None:
            process.kill()
        said = process.communicate()[0]
        assert process.returncode == 0, said + self.logs()
        return said

    def logs(self) -> str:
        return "".join(path.read_text()[-3000:] for path in self.folder.glob("sweeps/*/*/log.txt"))

    def wait_for_step(self, step: int, seconds: float = 600) -> None:
        """Waits until an unlearning has done so many steps."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            for path in (self.folder / "store" / "unlearn").glob(".*/checkpoints/metrics.jsonl"):
                if path.read_text().count("\n") >= step:
                    return
            time.sleep(0.05)
        raise AssertionError(f"step {step} never came; {self.logs()}")

    def results(self) -> dict[str, Any]:
        return {
            path.parent.name: json.loads(path.read_text())
            for path in self.folder.glob("sweeps/*/*/results.json")
        }

    def weights(self) -> dict[str, bytes]:
        """The unlearned models, by key."""
        found = (self.folder / "store" / "unlearn").glob("[!.]*/model.safetensors")
        return {path.parent.name: path.read_bytes() for path in found}

    def steps(self) -> list[int]:
        """The steps in the only job's telemetry of unlearning."""
        (path,) = self.folder.glob("sweeps/*/*/metrics.jsonl")
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        return [line["step"] for line in lines if line["stage"] == "unlearn"]


@pytest.fixture
def place(slurm: OneNode, tmp_path: Path) -> Place:
    return Place(slurm, tmp_path / "outputs")


def test_an_array_of_four_two_at_a_time_and_one_that_fails(place: Place, tmp_path: Path) -> None:
    noted = tmp_path / "gpus"
    line = f"echo $(date +%s.%N) start $CUDA_VISIBLE_DEVICES >> {noted}"
    command = (
        *("-m", *SETTINGS, "seed=0,1,2,3", "cluster=slurm", "cluster.at_once=2", "cluster.gpus=1"),
        *("cluster.time_min=10", f"cluster.setup=['{line}']"),
    )
    # The third job cannot leave its scores.
    blocked = place.folder / "sweeps" / "sweep" / "pocket-ga-gru,debug=tiny,seed=2" / "results.json"
    blocked.mkdir(parents=True)
    process = place.start(*command)
    most = 0
    while process.poll() is None:
        running = place.node.call("squeue", "-h", "-r", "-t", "RUNNING", check=False)
        most = max(most, len(running.splitlines()))
        if most and not (place.folder / "interrupted").exists():
            (place.folder / "interrupted").touch()
            process.send_signal(signal.SIGINT)
            said = process.communicate(timeout=1800)[0]
            assert process.returncode == 128 + signal.SIGINT, said
            assert "4 jobs that go on by themselves" in said
            process = place.start(*command)
        time.sleep(0.3)
    said = process.communicate()[0]
    assert "slurm: 0 submitted, 4 in the queue from before" in said
    assert process.returncode != 0, said
    assert most == 2, said
    assert "4 jobs: 3 completed, 1 failed" in said
    (cause,) = [text for text in said.splitlines() if text.startswith("failed ")]
    assert "seed=2" in cause
    assert "results.json" in cause
    assert len(list((place.folder / "store" / "finetune").glob("[!.]*"))) == 2
    devices = [text.split()[2] for text in noted.read_text().splitlines()]
    assert len(devices) == 4
    assert set(devices) <= {"0", "1"}, "one GPU each"

    blocked.rmdir()
    said = place.run(*command)
    assert "3 need nothing, 1 to run" in said
    assert "4 jobs: 4 completed" in said


def test_two_ranks_preempted_by_an_urgent_job_continue(place: Place, tmp_path: Path) -> None:
    steps = 400
    command = (
        *("-m", *SETTINGS, *TWO_RANKS, "seed=0", f"train.steps={steps}", "train.lr=1e-3"),
        "train.checkpoint_every=null",  # what is saved is saved because of the warning
    )
    slurm = ("cluster=slurm", "cluster.time_min=60", "cluster.cpus=4")
    process = place.start(*command, *slurm)
    place.wait_for_step(20)
    urgent = ("--partition", "urgent", "-c", "4", "--time", "1", "-o", "/dev/null")
    place.node.call("sbatch", *urgent, "--wrap", "sleep 2")
    said = place.finish(process)
    (log,) = place.folder.glob("sweeps/*/*/log.txt")
    assert "SIGUSR2: ending at the next step" in log.read_text(), "it was warned"
    assert "1 jobs: 1 completed" in said
    assert place.steps() == [*range(1, steps + 1)]

    undisturbed = Place(place.node, tmp_path / "undisturbed")
    undisturbed.run(*command)
    assert place.weights() == undisturbed.weights()
    mine, theirs = place.results(), undisturbed.results()
    assert {n: r["scores"] for n, r in mine.items()} == {n: r["scores"] for n, r in theirs.items()}


def test_a_job_that_reaches_its_time_limit_continues(place: Place) -> None:
    steps = 1200
    command = (
        *("-m", *SETTINGS, "seed=0", f"train.steps={steps}", "train.checkpoint_every=null"),
        "train.micro_batch=1",  # slower: SLURM looks at limits every half minute
        *("cluster=slurm", "cluster.time_min=60", "cluster.signal_s=50"),
    )
    process = place.start(*command)
    place.wait_for_step(20)
    (path,) = place.folder.glob("sweeps/*/.slurm/jobs.json")
    (job,) = json.loads(path.read_text()).values()
    place.node.call("scontrol", "update", f"JobId={job}", "TimeLimit=1")
    until = time.monotonic() + 600
    while "PENDING" not in place.node.call("squeue", "-h", "-j", job, "-o", "%T"):
        assert time.monotonic() < until, place.logs()
        time.sleep(0.3)
    place.node.call("scontrol", "update", f"JobId={job}", "TimeLimit=60")
    said = place.finish(process)
    (log,) = place.folder.glob("sweeps/*/*/log.txt")
    assert "SIGUSR2: ending at the next step" in log.read_text()
    assert "1 jobs: 1 completed" in said
    assert place.steps() == [*range(1, steps + 1)]
