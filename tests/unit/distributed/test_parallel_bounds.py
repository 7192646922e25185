"""Sizes beyond any machine are refused by the fields themselves, and numbers of launchers read."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from unlearn_runner.config.build import build
from unlearn_runner.distributed import external, launch
from unlearn_runner.distributed.base import Parallel
from unlearn_runner.distributed.clusters.base import Cluster
from unlearn_runner.distributed.ddp import DDP
from unlearn_runner.errors import ConfigError
from unlearn_runner.training.recipe import Recipe

run = import_module("unlearn_runner.run")  # the package hands on a function of that name
VARIABLES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "SLURM_NODEID", "SLURM_JOB_ID")


@pytest.fixture(autouse=True)
def _no_launcher(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in VARIABLES:
        monkeypatch.delenv(variable, raising=False)


DDP_CLASS = "unlearn_runner.distributed.ddp.DDP"
SINGLE = "unlearn_runner.distributed.single.Single"
FSDP2 = "unlearn_runner.distributed.fsdp2.FSDP2"
LOCAL = "unlearn_runner.distributed.clusters.local.Local"
SLURM = "unlearn_runner.distributed.clusters.slurm.Slurm"


@pytest.mark.parametrize(
    ("schema", "target", "field", "value"),
    [
        (Parallel, DDP_CLASS, "ranks", 99999),
        (Parallel, FSDP2, "ranks", 10**30),
        (Parallel, SINGLE, "ranks", 99999),
        (Parallel, DDP_CLASS, "nodes", 10**9),
        (Parallel, DDP_CLASS, "timeout", 1e300),
        (Parallel, SINGLE, "threads", 99999999),
        (Cluster, LOCAL, "jobs", 10**9),
        (Cluster, LOCAL, "gpus", 10**9),
        (Cluster, SLURM, "time_min", 10**12),
        (Cluster, SLURM, "cpus", 10**9),
        (Recipe, None, "batch_size", 99999999999999999999999),
        (Recipe, None, "micro_batch", 10**20),
        (Recipe, None, "epochs", 1e29),
        (Recipe, None, "steps", 10**18),
        (Recipe, None, "warmup_epochs", 1e29),
        (Recipe, None, "max_length", 10**18),
    ],
)
def test_sizes_are_bounded(schema: Any, target: str | None, field: str, value: Any) -> None:
    node = {field: value} | ({"_target_": target} if target else {})
    with pytest.raises(ConfigError, match=rf"group\.{field}=.* is not allowed; allowed: .*<") as no:
        build(node, schema, "group")
    assert len(str(no.value).splitlines()) <= 2


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("WORLD_SIZE", "abc"),
        ("WORLD_SIZE", "0"),
        ("WORLD_SIZE", "-2"),
        ("WORLD_SIZE", "1e3"),
        ("WORLD_SIZE", "9" * 5000),
        ("RANK", "abc"),
        ("RANK", ""),
        ("RANK", "2"),
        ("RANK", "-1"),
        ("LOCAL_RANK", "x"),
        ("LOCAL_WORLD_SIZE", "none"),
    ],
)
def test_a_launchers_numbers_are_checked_before_anything_else(
    variable: str,
    value: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv(variable, value)
    monkeypatch.setattr("sys.argv", ["unlearn", "debug=tiny", f"output_dir={tmp_path / 'out'}"])
    assert run.main() == 2
    first, second = capsys.readouterr().err.strip().splitlines()
    assert first.startswith(f"error: the environment variable {variable}={value[:40]} is not")
    assert second == f"fix: unset {variable}"
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("value", ["abc", "", "-1", "1.5", "2"])
def test_which_node_this_is_must_be_a_number_below_theirs(
    value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLURM_NODEID", value)
    with pytest.raises(ConfigError, match=r"SLURM_NODEID=.*0 to 1"):
        launch.start(never(), DDP(ranks=1, nodes=2, master="127.0.0.1:1"))


@pytest.mark.parametrize("value", ["x", "", "12_3"])
def test_the_number_of_a_slurm_job_must_be_one(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_NODEID", "1")
    monkeypatch.setenv("SLURM_LAUNCH_NODE_IPADDR", "10.0.0.1")
    monkeypatch.setenv("SLURM_JOB_ID", value)
    with pytest.raises(ConfigError, match="SLURM_JOB_ID"):
        launch.start(never(), DDP(ranks=1, nodes=2))


def never() -> launch.Launch:
    return launch.Launch("no.such.module", "", "", lambda cause, printed: None)


def test_without_a_launcher_there_is_no_world(monkeypatch: pytest.MonkeyPatch) -> None:
    assert external.world() == 0
    monkeypatch.setenv("WORLD_SIZE", "4")
    assert external.world() == 0, "no rank: another program's variable"
    monkeypatch.setenv("RANK", "3")
    assert external.world() == 4
    assert not external.main_rank()
