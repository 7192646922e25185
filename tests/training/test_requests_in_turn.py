"""Runs that are asked to forget several times: a row for each request, whenever they are killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from helpers.finished import finished_run

SETTINGS = (
    *("debug=tiny", "parallel.threads=1", "parallel.device=cpu", "benchmark.limit=20", "name=run"),
    *("benchmark.in_turn=[one_a,one_b]", "method=ga", "train.lr=1e-2", "train.checkpoint_every=1"),
    *("~benchmark.view.real_authors", "~benchmark.view.world_facts"),
)
DYING = str(Path(__file__).with_name("dying.py"))


def results(outputs: Path) -> dict[str, Any]:
    return json.loads((outputs / "runs" / "run" / "results.json").read_text())


@pytest.fixture(scope="module")
def undisturbed(own_threads: None, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    outputs = tmp_path_factory.mktemp("in_turn")
    finished_run(*SETTINGS, f"output_dir={outputs}")
    return results(outputs)


def test_a_run_says_who_was_asked_for_when(undisturbed: dict[str, Any]) -> None:
    first, second = undisturbed["requests"]
    assert [(r["request"], r["people"], r["rows"], r["requested"]) for r in (first, second)] == [
        ("one_a", [39], 10, ["one_a"]),
        ("one_b", [38], 10, ["one_a", "one_b"]),
    ]
    probability = "forget.probability"
    target = undisturbed["scores"]["target.forget.probability"]
    for row in (first, second):
        each = [row["of_requests"][name][probability] for name in row["requested"]]
        assert row["scores"][probability] == pytest.approx(sum(each) / len(each))
        assert each[-1] < target, "it unlearns"
    # The last row is the run's own.
    assert second["scores"][probability] == pytest.approx(undisturbed["scores"][probability])
    assert second["scores"]["model_utility"] == undisturbed["scores"]["model_utility"]
    assert "forget_quality" not in first["scores"], "no retain model is of the first request alone"


@pytest.mark.long
def test_killed_between_and_within_requests_it_ends_the_same(
    undisturbed: dict[str, Any], tmp_path: Path
) -> None:
    def start(*program: str) -> tuple[int, str]:
        command = [sys.executable, *program, *SETTINGS, f"output_dir={tmp_path}"]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        return done.returncode, done.stderr

    for place, count in (
        ("checkpoint half written", 2),  # within the first request
        ("artifact just published", 1),  # between the two
        ("checkpoint without its note", 2),  # within the second
    ):
        code, said = start(DYING, place, "unlearn", str(count))
        assert code == -signal.SIGKILL, f"{place} never came: {said}"
    code, said = start("-m", "unlearn_runner.run")
    assert code == 0, said
    found = results(tmp_path)
    for key in ("scores", "intervals", "requests"):
        assert found[key] == undisturbed[key], key
    keys = [stage["key"] for stage in found["stages"]]
    assert keys == [stage["key"] for stage in undisturbed["stages"]]
    (first,) = (stage for stage in found["stages"] if stage["name"] == "unlearn one_a")
    assert first["cached"], "it was not done again"
