"""Evaluations of whole runs: a finished one is asked for more, one is killed in the middle."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from helpers.pausing import HANGS

from unlearn_runner.evaluation.metrics.evidence import read_record
from unlearn_runner.evaluation.probes.journal import Journal
from unlearn_runner.pipeline.plan import DEFAULT_SUITE
from unlearn_runner.report.run_folder import read

pytestmark = [pytest.mark.long, pytest.mark.usefixtures("own_threads")]

TINY = ("debug=tiny", "parallel.threads=1", "parallel.device=cpu", "method=ga", "rectifier=none")
TINY = (*TINY, "evaluate.batch_size=2", "name=run")
DYING = str(Path(__file__).with_name("dying.py"))
Rows = Counter[tuple[str, int]]


def run(folder: Path, *overrides: str) -> tuple[dict[str, Any], Rows]:
    """Performs a command here; returns its results, and the rows that probes computed."""
    from unlearn_runner.api import run as perform

    computed, write = Rows(), Journal.write

    def watched(self: Journal[Any], results: dict[int, Any]) -> None:
        computed.update((stage_of(self.folder), row) for row in results)
        write(self, results)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Journal, "write", watched)
        found = perform(*TINY, *overrides, f"output_dir={folder}", "overwrite=true")
    return json.loads((found.path / "results.json").read_text()), computed


def stage_of(journal: Path) -> str:
    """Returns the artifact and the probe that a journal is of."""
    return "/".join(journal.parts[-5:])


def test_the_full_suite_of_a_finished_run_evaluates_what_is_missing(tmp_path: Path) -> None:
    first, computed = run(tmp_path)
    assert len(computed) > 100
    full, more = run(tmp_path, "benchmark.suite=full")
    assert {name.rpartition("/")[2] for name, _ in more} == {"holdout.logprobs"}
    stages = {stage["name"]: stage for stage in full["stages"]}
    fresh = {name for name, stage in stages.items() if not stage["cached"] and stage["needed"]}
    scored = {name for name in stages if name.startswith("score")}
    evaluated = {name for name in stages if f"{name}{DEFAULT_SUITE}" in stages}
    assert len(evaluated) == 3
    assert fresh == scored | evaluated
    assert full["scores"].items() >= first["scores"].items()
    found = read(tmp_path / "runs" / "run")
    stage = found.stage("evaluate unlearned")
    folder = stage and found.artifact(stage)
    assert folder is not None
    assert read_record(folder, "forget").texts is not None, "all views are in one place"
    strength = "unlearn_runner.evaluation.metrics.memorisation.extraction.ExtractionStrength"
    metric = f"benchmark.metric.strength={{_target_: {strength}}}"
    again, nothing = run(tmp_path, "benchmark.suite=full", metric)
    assert not nothing, "one metric more needs no model"
    assert again["scores"].keys() > full["scores"].keys()


def test_a_killed_evaluation_goes_on_and_computes_no_row_twice(tmp_path: Path) -> None:
    whole, computed = run(tmp_path / "whole", "benchmark.suite=full")
    place = tmp_path / "killed"
    words = [*TINY, "benchmark.suite=full", f"output_dir={place}"]
    for count in (2, 7):
        moment = ("checkpoint without its note", "evaluate", str(count))
        done = subprocess.run(
            [sys.executable, DYING, *moment, *words],
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            timeout=HANGS,
        )
        assert done.returncode == -signal.SIGKILL, done.stderr
    kept = Rows()
    for folder in (place / "store").rglob("attempt/*"):
        kept.update((stage_of(folder), row) for row in Journal[Any](folder, unpack=_rows).read())
    assert len(kept) >= 2 + 7
    found, others = run(place, "benchmark.suite=full")
    assert not kept & others, "no row twice"
    assert kept | others == computed
    known = {name: score for name, score in whole["scores"].items() if score is not None}
    assert {name: found["scores"][name] for name in known} == pytest.approx(known, rel=1e-5)


def _rows(packed: Any) -> Any:
    """Returns as many things as rows were packed."""
    return packed[0] if isinstance(packed, tuple) else packed
