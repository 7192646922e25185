"""Whole runs on several ranks: our launcher, accelerate's, torchrun's; signals, kills, two nodes.

Real processes on this machine's processor. The fine-tunes are made once, by one process.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from helpers.pausing import HANGS, Pause
from ranked import free_port

STEPS, EVERY = 60, 4
SETTINGS = (
    *("debug=tiny", "method=npo", "method.retain.loss=nll", "rectifier=gru", "rectifier.gamma=0.3"),
    *(f"train.steps={STEPS}", f"train.checkpoint_every={EVERY}", "train.lr=3e-3", "name=run"),
    *("parallel.device=cpu", "parallel.threads=1", "evaluate.batch_size=4"),
    # Sixty AdamW steps in float32 carry another order of summation into the third digit.
    "train.precision=float64",
)
SCRIPT = (sys.executable, "-m", "unlearn_runner.run")
CONFIG = """\
compute_environment: LOCAL_MACHINE
debug: false
distributed_type: MULTI_GPU
downcast_bf16: 'no'
enable_cpu_affinity: false
gpu_ids: all
machine_rank: 0
main_training_function: main
mixed_precision: 'no'
num_machines: 1
num_processes: 2
rdzv_backend: static
same_network: true
use_cpu: false
"""
"""As `accelerate config` writes it for two GPUs."""
FSDP = (
    CONFIG.replace("MULTI_GPU", "FSDP")
    + """\
fsdp_config:
  fsdp_activation_checkpointing: false
  fsdp_auto_wrap_policy: TRANSFORMER_BASED_WRAP
  fsdp_cpu_ram_efficient_loading: true
  fsdp_offload_params: false
  fsdp_reshard_after_forward: false
  fsdp_state_dict_type: SHARDED_STATE_DICT
  fsdp_version: 2
"""
)


class Place:
    """An outputs folder, and commands in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def start(self, *more: str, by: tuple[str, ...] = SCRIPT, **env: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [*by, *SETTINGS, f"output_dir={self.folder}", *more],
            env={**os.environ, "OMP_NUM_THREADS": "1", **env},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def held(self, step: int, *more: str) -> tuple[subprocess.Popen[str], Pause]:
        """Starts a command that waits once its unlearning has logged a step."""
        pauses = self.folder.with_name(f"{self.folder.name}-pauses")
        pauses.mkdir(exist_ok=True)
        pause = Pause(pauses / f"{len(list(pauses.iterdir()))}", "unlearn", step)
        process = self.start(*more, **pause.environment)
        assert pause.reached(process), process.communicate()[1]
        return process, pause

    def finish(self, *more: str, **how: Any) -> str:
        process = self.start(*more, **how)
        out, said = process.communicate(timeout=HANGS)
        assert process.returncode == 0, said + out
        return said

    def json(self, name: str) -> dict[str, Any]:
        return json.loads((self.folder / "runs" / "run" / name).read_text())

    def parallel(self) -> dict[str, Any]:
        """How the run says it was spread."""
        from omegaconf import OmegaConf

        config: Any = OmegaConf.load(self.folder / "runs" / "run" / "config.yaml")
        return dict(config.parallel)

    def step(self) -> int:
        """The last step that the unfinished unlearning has logged."""
        found = [0]
        for path in (self.folder / "store/unlearn").glob(".*/checkpoints/metrics.jsonl"):
            text = path.read_text().split("\n")[:-1]
            found += [json.loads(line)["step"] for line in text if line.endswith("}")]
        return max(found)

    def telemetry(self) -> list[dict[str, Any]]:
        text = (self.folder / "runs/run/metrics.jsonl").read_text().splitlines()
        lines = [json.loads(line) for line in text]
        return [
            {k: v for k, v in line.items() if k not in ("stage", "tokens_per_s")}
            for line in lines
            if line["stage"] == "unlearn"
        ]

    def unlearned(self) -> dict[str, bytes]:
        """The files of the unlearned model and of its evidence."""
        kinds = ("unlearn", "evaluate")
        return {
            str(path.relative_to(self.folder)): path.read_bytes()
            for kind in kinds
            for path in sorted((self.folder / "store" / kind).glob("[!.]*/*"))
            if path.name not in ("manifest.json", "metrics.jsonl")
        }

    def evidence(self) -> dict[str, Any]:
        found = {}
        for path in sorted((self.folder / "store/evaluate").glob("[!.]*/*.parquet")):
            found[f"{path.parent.name}/{path.name}"] = pq.read_table(path).to_pydict()
        return found


def ranks_of(launcher: int) -> list[int]:
    """Process ids of a launcher's ranks, in their order."""
    found = {}
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(status.read_text().rpartition(")")[2].split()[1])
            variables = (status.parent / "environ").read_text().split("\0")
        except (OSError, ValueError, IndexError):
            continue
        named = [v.partition("=")[2] for v in variables if v.startswith("RANK=")]
        if parent == launcher and named:
            found[int(named[0])] = int(status.parent.name)
    return [found[rank] for rank in sorted(found)]


def gone(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return True
    return state == "Z"


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """The run of one process."""
    place = Place(tmp_path_factory.mktemp("alone"))
    place.finish()
    return place


@pytest.fixture
def fresh(alone: Place, tmp_path: Path) -> Callable[[], Place]:
    """Makes places whose fine-tunes and start logprobs are there, and the unlearned model not."""

    def make() -> Place:
        folder = tmp_path / f"place{len(list(tmp_path.iterdir()))}"
        shutil.copytree(alone.folder / "store", folder / "store")
        shutil.rmtree(folder / "store" / "unlearn")
        for evaluation in (folder / "store" / "evaluate").glob("[!.]*"):
            label = json.loads((evaluation / "manifest.json").read_text())["label"]
            if label == "evaluate unlearned":
                shutil.rmtree(evaluation)
        shutil.rmtree(folder / "store" / "score")
        return Place(folder)

    return make


def assert_close(place: Place, alone: Place) -> None:
    """The same rows in both, once; log-probabilities to 1e-5, generations to the letter."""
    mine, theirs = place.evidence(), alone.evidence()
    assert mine.keys() == theirs.keys()
    for name, table in theirs.items():
        assert mine[name]["row"] == table["row"]
        if "generation" in table:
            assert mine[name]["generation"] == table["generation"]
        else:
            for a, b in zip(mine[name]["logprob"], table["logprob"], strict=True):
                np.testing.assert_allclose(a, b, rtol=0, atol=1e-5)
    scores = alone.json("results.json")["scores"]
    assert place.json("results.json")["scores"] == pytest.approx(scores, rel=1e-4, abs=1e-6)
    for a, b in zip(place.telemetry(), alone.telemetry(), strict=True):
        assert a == pytest.approx(b, rel=1e-6, abs=1e-9)


@pytest.mark.long
@pytest.mark.parametrize("engine", ["fsdp2", "ddp"])
def test_interrupted_and_killed_on_two_ranks_it_ends_at_the_same_bits(
    engine: str, fresh: Callable[[], Place], alone: Place
) -> None:
    two = (f"parallel={engine}", "parallel.ranks=2")
    whole = fresh()
    whole.finish(*two)
    assert_close(whole, alone)

    place = fresh()
    process, pause = place.held(7, *two)
    process.send_signal(signal.SIGTERM)
    pause.go()
    said = process.communicate(timeout=HANGS)[1]
    assert process.returncode == 128 + signal.SIGTERM, said
    status = place.json("status.json")
    assert (status["status"], status["signal"]) == ("interrupted", "SIGTERM")
    assert said.count("to continue: unlearn debug=tiny") == 1
    assert f"step-{place.step():08d}.json" in os.listdir(
        next((place.folder / "store/unlearn").glob(".*/checkpoints"))
    )

    process, pause = place.held(19, *two)
    ranks = ranks_of(process.pid)
    os.kill(ranks[1], signal.SIGKILL)
    pause.go()
    wait_until_gone(ranks)  # far below parallel.timeout
    said = process.communicate(timeout=HANGS)[1]
    assert process.returncode == 1
    assert "rank 1 was killed by SIGKILL" in said
    assert "to continue: unlearn debug=tiny" in said
    status = place.json("status.json")
    assert (status["status"], status["error"]) == ("failed", "rank 1 was killed by SIGKILL")

    process, _ = place.held(33, *two)
    ranks = ranks_of(process.pid)
    process.kill()
    process.communicate(timeout=HANGS)
    wait_until_gone(ranks)

    place.finish(*two)
    assert place.unlearned() == whole.unlearned()
    assert place.json("results.json")["scores"] == whole.json("results.json")["scores"]
    assert place.telemetry() == whole.telemetry()


def wait_until_gone(ranks: list[int]) -> None:
    """Ranks end soon when one of them is killed, or their launcher."""
    assert len(ranks) == 2
    until = time.monotonic() + HANGS
    while not all(map(gone, ranks)):
        assert time.monotonic() < until, f"ranks were still there {HANGS:g} s after the kill"
        time.sleep(0.05)


@pytest.mark.long
@pytest.mark.parametrize("step", [EVERY + 1, 2 * EVERY - 1], ids=["in a step", "while saving"])
def test_a_hung_rank_ends_the_run(step: int, fresh: Callable[[], Place]) -> None:
    place = fresh()
    # Long enough for a rank that merely gets little of the processor.
    process, pause = place.held(step, "parallel=ddp", "parallel.ranks=2", "parallel.timeout=20")
    os.kill(ranks_of(process.pid)[1], signal.SIGSTOP)
    pause.go()
    process.communicate(timeout=HANGS)
    assert process.returncode == 1
    assert place.json("status.json")["status"] == "failed"


@pytest.mark.parametrize(
    ("written", "engine"),
    [(CONFIG, "ddp.DDP"), pytest.param(FSDP, "fsdp2.FSDP2", marks=pytest.mark.long)],
    ids=["MULTI_GPU", "FSDP"],
)
def test_accelerate_launch_runs_the_same_job(
    written: str, engine: str, fresh: Callable[[], Place], alone: Place, tmp_path: Path
) -> None:
    (tmp_path / "accelerate.yaml").write_text(written)
    place = fresh()
    config = ("--config_file", str(tmp_path / "accelerate.yaml"))
    config += ("--main_process_port", str(free_port()))
    by = (sys.executable, "-m", "accelerate.commands.launch", *config, "-m", "unlearn_runner.run")
    said = place.finish(by=by, ACCELERATE_USE_CPU="true")
    assert place.json("results.json")["provenance"]["ranks"] == 2, said
    chosen = place.parallel()
    assert chosen["_target_"].endswith(engine)
    # The file's choice, where it has one: the runner's own is true.
    assert chosen.get("reshard", False) is False
    assert_close(place, alone)


@pytest.mark.long
def test_torchrun_runs_the_same_job(fresh: Callable[[], Place], alone: Place) -> None:
    place = fresh()
    torchrun = (sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2")
    by = (*torchrun, "--master-port", str(free_port()), "-m", "unlearn_runner.run")
    said = place.finish(by=by)
    assert place.json("results.json")["provenance"]["ranks"] == 2, said
    assert place.parallel()["_target_"].endswith("ddp.DDP")
    assert_close(place, alone)


@pytest.mark.long
def test_two_launchers_are_two_nodes(fresh: Callable[[], Place], alone: Place) -> None:
    place = fresh()
    port = free_port()
    nodes = ("parallel=ddp", "parallel.ranks=1", "parallel.nodes=2")
    meet = f"parallel.master=127.0.0.1:{port}"
    second = place.start(*nodes, "parallel.node_rank=1", meet)
    place.finish(*nodes, "parallel.node_rank=0", meet)
    out, said = second.communicate(timeout=HANGS)
    assert (second.returncode, out) == (0, ""), said
    assert place.json("results.json")["provenance"]["ranks"] == 2
    assert_close(place, alone)


@pytest.mark.parametrize(
    ("arguments", "env", "says"),
    [
        (
            ("-m", "method=ga,gd"),
            {},
            ("sweep", "unlearn -m method=ga,gd", "parallel=ddp parallel.ranks=2"),
        ),
        (("sweep=gru_gamma_tau",), {}, ("sweep", "unlearn sweep=gru_gamma_tau")),
        (("parallel=single",), {}, ("parallel=single", "2 ranks", "parallel=ddp")),
        (("parallel=ddp", "parallel.ranks=3"), {}, ("parallel.ranks=3", "2 ranks")),
        (("parallel=ddp",), {"ACCELERATE_USE_FSDP": "true"}, ("parallel=ddp", "FSDP")),
        ((), {"ACCELERATE_USE_DEEPSPEED": "true"}, ("DeepSpeed", "parallel=fsdp2")),
    ],
)
def test_ranks_of_another_launcher_are_refused_what_they_cannot_do(
    arguments: tuple[str, ...], env: dict[str, str], says: tuple[str, ...], tmp_path: Path
) -> None:
    """Every rank refuses, rank 0 says it."""
    for rank in ("0", "1"):
        ranked = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": "2", **env}
        done = subprocess.run(
            [*SCRIPT, *arguments, f"output_dir={tmp_path}"],
            env={**os.environ, **ranked},
            capture_output=True,
            text=True,
            timeout=HANGS,
        )
        assert done.returncode == 2, done.stderr
        assert not list(tmp_path.iterdir())
        if rank == "1":
            assert done.stderr == ""
        else:
            assert len(done.stderr.strip().splitlines()) == 2
            assert all(words in done.stderr for words in says), done.stderr


@pytest.mark.long
def test_torchrun_refuses_a_sweep_with_the_right_command(tmp_path: Path) -> None:
    done = subprocess.run(
        [
            *(sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"),
            *("--master-port", str(free_port())),
            *("-m", "unlearn_runner.run", "-m", "method=ga,gd", f"output_dir={tmp_path}"),
        ],
        capture_output=True,
        text=True,
        timeout=HANGS,
    )
    assert done.returncode != 0
    assert done.stderr.count("a sweep cannot run in 2 ranks") == 1
    assert "unlearn -m method=ga,gd" in done.stderr
    assert not list(tmp_path.iterdir())
