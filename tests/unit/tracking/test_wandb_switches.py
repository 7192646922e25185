"""Switches of the W&B mirror: what an offline run records of git, read back from its file."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from unlearn_runner.tracking.base import Mirrored
from unlearn_runner.tracking.wandb import Wandb

sys.path.append(str(Path(__file__).resolve().parents[2] / "training"))
import mirrors


@pytest.mark.parametrize("git", [True, None])
def test_git_is_recorded_where_it_is_asked_for(
    git: bool | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wandb = pytest.importorskip("wandb", reason="needs the extra wandb")
    here, run = tmp_path / "mine", tmp_path / "run"
    for folder in (here, run):
        folder.mkdir()
    author = ["-c", "user.name=a", "-c", "user.email=a@b"]
    for words in (
        ["init", "-q"],
        ["remote", "add", "origin", "https://me:secret@host/a.git"],
        [*author, "commit", "-q", "--allow-empty", "-m", "first"],
    ):
        subprocess.run(["git", *words], cwd=here, check=True)
    head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=here, capture_output=True, text=True)
    monkeypatch.chdir(here)
    sink = Wandb(mode="offline", git=git).open(Mirrored(run, "0123abcd", {"seed": 0}, print))
    sink.finish("completed")
    wandb.teardown()  # its process writes the file to its end
    config = mirrors.items(mirrors.started(mirrors.records(run)).config.update)
    expected = {"commit": head.stdout.strip(), "remote": "https://host/a.git"}
    assert config.get("git") == (expected if git else None)
    assert mirrors.holding(run, ["secret"]) == []
