"""`unlearn estimate=...`: what is printed before anything starts, and the warning."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

LARGE = (
    *("model=scratch", "model.shape.hidden_size=4096", "model.shape.intermediate_size=11008"),
    *("model.shape.num_layers=32", "model.shape.num_heads=32", "model.vocab_size=32000"),
    *("train.precision=bf16", "model.shape.tie_embeddings=false"),
)
"""Llama-2-7B's shape; nothing is made of it."""


def run(folder: Path, *overrides: str) -> tuple[str, str]:
    """Returns what a command says and warns of; it must leave nothing."""
    command = [sys.executable, "-m", "unlearn_runner.run", "estimate=A100-80GB", *overrides]
    done = subprocess.run(
        [*command, f"output_dir={folder / 'outputs'}"],
        cwd=folder,
        env={**os.environ, "COLUMNS": "120"},
        capture_output=True,
        text=True,
        timeout=1800,
    )
    assert done.returncode == 0, done.stderr
    assert not list(folder.iterdir())
    return done.stdout, done.stderr


def gigabytes(said: str, line: str) -> float:
    """Returns the number in a line of the table."""
    (found,) = re.findall(rf"{re.escape(line)}[^│]*│\s+([\d.]+)", said)
    return float(found)


def test_it_prints_what_unlearning_needs(tmp_path: Path) -> None:
    said, warned = run(tmp_path, "model=pocket")
    assert warned == ""
    assert "unlearning 1.4 M parameters, Single on 1 rank" in " ".join(said.split())
    assert "of 80" in said
    assert "seconds of a step" in said
    assert abs(gigabytes(said, "AdamW's moments") - 2 * 4 * 1.4 / 1000) < 5e-4


def test_it_warns_of_what_cannot_fit_and_its_remedy_fits(tmp_path: Path) -> None:
    sharded = (*LARGE, "parallel=fsdp2", "parallel.ranks=2", "train.micro_batch=4")
    said, warned = run(tmp_path, *sharded)
    assert "unlearning 6,738.4 M parameters, FSDP2 on 2 ranks, bf16;" in " ".join(said.split())
    needed = gigabytes(said, "peak, on A100-80GB")
    # Half of the weights, two moments, GRU's mean and two gradients, in float32.
    assert 80 < 6 * 4 * 6.738 / 2 < needed
    assert f"warning: {needed:.1f} GB do not fit A100-80GB (80 GB): " in warned
    assert "parallel.offload=true" in warned

    said, warned = run(tmp_path, *sharded, "parallel.offload=true")
    assert warned == ""
    assert gigabytes(said, "weights") == 0
    assert gigabytes(said, "peak, on A100-80GB") < 10
    assert abs(gigabytes(said, "(in host memory") - 6 * 4 * 6.738 / 2) < 2
