"""The benchmark for GPUs: its whole path, with a small model, on a processor."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
PAIRS = {
    "fine-tune",
    "GradDiff",
    "NPO",
    "GradDiff with GRU",
}


@pytest.mark.long
def test_both_engines_are_measured_and_written(tmp_path: Path) -> None:
    command = [sys.executable, str(BENCHMARKS / "gpu.py"), "--tiny", "--output", str(tmp_path)]
    done = subprocess.run(command, cwd=BENCHMARKS, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    figures = json.loads((tmp_path / "gpu-tiny.json").read_text())["figures"]
    for engine in ("single", "fsdp2"):
        for arm in PAIRS:
            peak = figures[f"{engine}, {arm}: peak GB"]["value"]
            assert peak > 0 < figures[f"{engine}, {arm}: tokens a second"]["value"]
            assert figures[f"{engine}, {arm}: peak GB by estimate"]["value"] > 0
    for arm in ("fine-tune", "GradDiff", "NPO"):
        assert figures[f"single, {arm}: bare loop, tokens a second"]["value"] > 0
    for arm in (
        "eager attention",
        "activation checkpointing",
    ):
        assert figures[f"single, GradDiff, {arm}: tokens a second"]["value"] > 0
    assert figures["single, GradDiff on LoRA with GRU: tokens a second"]["value"] > 0
    assert figures["single, evaluation: generated tokens a second"]["value"] > 0
    masters, bf16 = (
        figures[f"single, NPO{name}: distance moved"]["value"] for name in ("", ", bf16 weights")
    )
    assert 0 <= bf16 < masters
    page = (tmp_path / "gpu-tiny.md").read_text()
    assert "| single, GradDiff with GRU |" in page
    assert "a GRU step takes" in page
