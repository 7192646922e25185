"""Stop rules on several ranks: all end at the step where one process does, with its evidence."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from helpers.pausing import HANGS

SETTINGS = (
    *("debug=tiny", "parallel.threads=1", "parallel.device=cpu", "method=gd", "rectifier=gru"),
    *("benchmark=tdec_pocket", "benchmark.source.sequences=4", "benchmark.source.length=16"),
    *("benchmark.source.facts=2", "benchmark.limit=4", "evaluate.every=1", "train.lr=3e-2"),
    *("train.steps=6", "target.train.steps=12", "target.train.lr=1e-2", "evaluate.batch_size=8"),
    *("train.precision=float64", "target.train.precision=float64", "keep=scores"),
)


def run(folder: Path, *more: str) -> dict[str, Any]:
    """Runs a command to its end; returns its results."""
    done = subprocess.run(
        [sys.executable, "-m", "unlearn_runner.run", *SETTINGS, f"output_dir={folder}", *more],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=HANGS,
    )
    assert done.returncode == 0, done.stderr
    name = next(one[5:] for one in more if one.startswith("name="))
    return json.loads((folder / "runs" / name / "results.json").read_text())


@pytest.mark.long
@pytest.mark.parametrize("engine", ["ddp", "fsdp2"])
def test_two_ranks_end_where_one_process_does(engine: str, tmp_path: Path) -> None:
    free = run(tmp_path, "name=free")
    values = [one["scores"]["forget.perplexity"] for one in free["along"]]
    assert values[2] < values[3]
    rule = f"train.stop={{metric: forget.perplexity, above: {(values[2] + values[3]) / 2}}}"
    one = run(tmp_path, "name=one", rule)
    assert one["stopped"]["step"] == 4
    # A store of its own: engines are no part of a key.
    (tmp_path / "other").mkdir()
    two = run(tmp_path / "other", "name=two", rule, f"parallel={engine}", "parallel.ranks=2")
    assert two["provenance"]["ranks"] == 2
    assert two["stopped"]["step"] == 4
    assert two["stopped"]["scores"] == pytest.approx(one["stopped"]["scores"], rel=1e-4)
    names = [name for name, score in one["scores"].items() if score is not None]
    assert [two["scores"][n] for n in names] == pytest.approx(
        [one["scores"][n] for n in names], rel=1e-4, abs=1e-6
    )
