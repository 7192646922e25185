"""Certificates of influence edits in a report: figures of `results.json`, whoever wrote it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from unlearn_runner.report import build, certificates
from unlearn_runner.report.compare import Axes, Comparison
from unlearn_runner.report.run_folder import RunFolder
from unlearn_runner.report.schema import RESULTS


def run(number: int, stages: list[dict[str, Any]]) -> RunFolder:
    results = {"status": "completed", "scores": {"forget.probability": 0.5}, "stages": stages}
    return RunFolder(number, Path(f"run{number}"), {"status": "completed"}, results, {})


def stage(kind: str, **more: Any) -> dict[str, Any]:
    named = {"name": kind, "kind": kind, "key": "0" * 16, "cached": True}
    return {**named, "seconds": 1.0, "outcome": "completed", **more}


def test_a_certificate_is_a_row(tmp_path: Path) -> None:
    facts = {"task": "remove", "solver": "cg", "residual": 0.004, "condition": None}
    solved = run(1, [stage("finetune"), stage("influence", facts=facts)])
    plain = run(2, [stage("unlearn", facts={"residual": 9.0})])
    assert certificates.table([plain]) is None
    found = certificates.table([solved, plain])
    assert found is not None
    (row,) = found.rows
    by_key = dict(zip((column.key for column in found.columns), row, strict=True))
    assert (by_key["run"].value, by_key["solver"].text) == (1, "cg")
    assert (by_key["residual"].value, by_key["residual"].text) == (0.004, "0.0040")
    assert by_key["condition"].text == "–"
    compared = Comparison([solved, plain], Axes.among(Comparison([solved, plain]).metrics))
    files = build.report(compared, "two runs", 0, None, None)
    assert '<h2 id="influence">' in str(files["report.html"])
    assert "0.004" in str(files["certificates.csv"])
    assert all(RESULTS["stages"](one.results["stages"]) for one in (solved, plain))


@pytest.mark.parametrize("bad", ["0.1", True, [1], 1e300])
def test_what_is_no_number_is_not_shown(bad: Any) -> None:
    found = certificates.table([run(1, [stage("influence", facts={"residual": bad})])])
    assert found is not None
    assert "residual" in [column.key for column in found.columns]
    assert {c.text for c in found.rows[0][1:]} == {"–"}
    assert not RESULTS["stages"]([stage("influence", facts=[1])])
