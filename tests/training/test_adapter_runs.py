"""Whole runs with an adapter: from the command to scores, interrupted, dropped, cleaned up."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from helpers.planning import plan_run

from unlearn_runner.api import compose
from unlearn_runner.commands.store import main as store_command
from unlearn_runner.pipeline.execute import Executor, StageResult
from unlearn_runner.pipeline.results import flat, scores
from unlearn_runner.store.inventory import inspect_entry
from unlearn_runner.store.store import WEIGHTS, Store
from unlearn_runner.tracking.record import Record
from unlearn_runner.utils import signals

TINY = ("debug=tiny", "parallel.threads=1", "parallel.device=cpu", "train.lr=1e-2")


class Place:
    """A store, and what runs on it leave there."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.store = folder, Store(folder / "store")

    def run(self, *overrides: str, record: type[Record] = Record) -> dict[str, StageResult]:
        run = compose(*TINY, "adapter=lora", *overrides)
        stages = plan_run(run)
        with signals.catch_signals():
            done = Executor(self.store, record(self.folder / "run"), run.parallel).run(stages)
        self.scores = flat(scores(stages, self.store, done))
        return {item.stage.label: item for item in done}

    def artifact(self, done: StageResult) -> Path:
        return self.store.path(done.stage)

    def bytes(self, done: StageResult) -> dict[str, bytes]:
        files = (path for path in self.artifact(done).rglob("*") if path.is_file())
        return {
            str(path.relative_to(self.artifact(done))): path.read_bytes()
            for path in files
            if path.name not in ("manifest.json", "metrics.jsonl", "README.md")
        }


@pytest.fixture(scope="module")
def first(own_threads: None, tmp_path_factory: pytest.TempPathFactory) -> tuple[Place, Any]:
    """KL under GRU, typed as a command: the process and its outputs."""
    folder = tmp_path_factory.mktemp("first")
    done = subprocess.run(
        [
            *(sys.executable, "-m", "unlearn_runner.run", *TINY, "adapter=lora", "method=kl"),
            f"output_dir={folder}",
        ],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=1800,
    )
    return Place(folder), done


def test_the_command_ends_in_a_table_and_an_adapter_folder(first: tuple[Place, Any]) -> None:
    place, done = first
    assert done.returncode == 0, done.stderr
    assert "Warning" not in done.stderr
    (run,) = (place.folder / "runs").iterdir()
    assert run.name == "pocket-kl-gru-lora,debug=tiny,train.lr=1e-2"
    results = json.loads((run / "results.json").read_text())
    assert results["status"] == "completed"
    by_label = {s["name"]: f"{s['kind']}/{s['key']}" for s in results["stages"]}
    kept = place.store.root / by_label["unlearn"]
    assert f"model    {kept}" in done.stdout
    assert {path.name for path in kept.iterdir() if "token" not in path.name} == {
        *("adapter_config.json", "adapter_model.safetensors", "manifest.json", "metrics.jsonl"),
        "README.md",
    }
    config = json.loads((kept / "adapter_config.json").read_text())
    base = kept / config["base_model_name_or_path"]
    assert base.resolve() == (place.store.root / by_label["target"]).resolve()
    manifest = json.loads(
        (place.store.root / by_label["evaluate unlearned"]).joinpath("manifest.json").read_text()
    )
    assert set(manifest["inputs"].values()) == {by_label["unlearn"], by_label["target"]}
    scores = results["scores"]
    assert scores["forget.probability"] != scores["target.forget.probability"]
    entry = inspect_entry(kept)
    assert entry is not None
    assert entry.what == "GA (retain kl) + GRU + LoRA, seed 0"


@pytest.mark.parametrize(
    "overrides",
    [
        pytest.param(("method=npo", "rectifier=none"), marks=pytest.mark.long),
        ("method=npo", "rectifier=gru", "adapter.base_dtype=bf16"),
    ],
)
def test_other_methods_and_rectifiers_run_too(
    first: tuple[Place, Any], overrides: tuple[str, ...]
) -> None:
    place, _ = first
    done = place.run(*overrides)
    assert {item.outcome for item in done.values()} == {"completed"}
    assert all(done[label].cached for label in ("target", "retain_model", "evaluate target"))
    assert not done["unlearn"].cached
    assert place.scores["forget.probability"] != place.scores["target.forget.probability"]


def test_a_merged_model_scores_as_its_adapter_does(first: tuple[Place, Any]) -> None:
    place, _ = first
    place.run("method=kl")
    beside = place.scores
    done = place.run("method=kl", "adapter.merge=true", "keep=scores")
    assert place.scores.keys() == beside.keys()
    for name, score in beside.items():
        assert place.scores[name] == pytest.approx(score, abs=1e-5), name
    files = place.bytes(done["unlearn"])
    assert {"model.safetensors", "adapter/adapter_model.safetensors"} <= set(files)
    place.store.drop(done["unlearn"].stage, WEIGHTS)  # as keep=scores does
    assert not [name for name in place.bytes(done["unlearn"]) if name.endswith(".safetensors")]
    again = place.run("method=kl", "adapter.merge=true", "keep=scores")
    assert again["score unlearned"].cached


def test_gradient_checkpointing_renames_nothing_and_changes_no_byte(
    first: tuple[Place, Any], tmp_path: Path
) -> None:
    place, _ = first
    kept = place.run("method=kl")["unlearn"]
    other = Place(tmp_path)
    on = ("train", "target.train", "model.pretrain")
    done = other.run("method=kl", *(f"{stage}.gradient_checkpointing=true" for stage in on))
    assert done["unlearn"].stage.key == kept.stage.key
    assert not done["unlearn"].cached
    assert other.bytes(done["unlearn"]) == place.bytes(kept)
    assert other.bytes(done["target"]) == {
        name: data for name, data in place.bytes(place.run("method=kl")["target"]).items()
    }


class Stopping(Record):
    """Gets a signal when the second step of unlearning has been logged."""

    def line(self, facts: dict[str, Any], of_stage: Path | None = None) -> None:
        super().line(facts, of_stage)
        if (facts["stage"], facts["step"]) == ("unlearn", 2):
            signal.raise_signal(signal.SIGTERM)


def test_interrupted_and_continued_it_ends_at_the_same_bits(
    first: tuple[Place, Any], tmp_path: Path
) -> None:
    place, _ = first
    how = ("method=npo", "train.steps=6", "adapter.dropout=0.3", "rectifier.gamma=0.3")
    how += ("evaluate.every=3", "keep=checkpoints")
    whole = place.run(*how)
    other = Place(tmp_path)
    for kind in ("pretrain", "finetune", "start"):
        shutil.copytree(place.store.root / kind, other.store.root / kind)
    with pytest.raises(signals.Interrupted):
        other.run(*how, record=Stopping)
    (checkpoint,) = other.store.root.glob("unlearn/.*.partial/checkpoints/*.pt")
    import torch

    state = torch.load(checkpoint, weights_only=True)
    assert state["step"] == 3, "the signal came while the second step was being logged"
    assert state["model"]
    assert all(".lora_" in name for name in state["model"]), "the frozen base is not written again"
    done = other.run(*how)
    assert other.bytes(done["unlearn"]) == place.bytes(whole["unlearn"])
    assert "step-000003/model/adapter_model.safetensors" in place.bytes(whole["unlearn"])
    assert other.scores == place.scores


def test_what_an_adapter_belongs_to_is_not_garbage(
    first: tuple[Place, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place, _ = first
    copy = Place(tmp_path / "copy")
    shutil.copytree(place.folder, copy.folder)
    assert store_command(["gc", str(copy.store.root), "--unused", "--yes"]) == 0
    (run,) = (copy.folder / "runs").iterdir()
    for stage in json.loads((run / "results.json").read_text())["stages"]:
        assert (copy.store.root / stage["kind"] / stage["key"] / "manifest.json").is_file()
    capsys.readouterr()
    # A target that is gone all the same is made again: the adapter is of no use without it.
    target = copy.run("method=kl")["target"]
    shutil.rmtree(copy.artifact(target))
    done = copy.run("method=kl")
    assert (done["target"].cached, done["unlearn"].cached) == (False, True)
    assert copy.bytes(done["target"]) == place.bytes(target)


def test_a_kept_adapter_is_no_target_without_its_base(first: tuple[Place, Any]) -> None:
    place, _ = first
    kept = place.artifact(place.run("method=kl")["unlearn"])
    from unlearn_runner.errors import DataError

    with pytest.raises(DataError, match="holds an adapter, and its base"):
        place.run(f"target.path={kept}")
