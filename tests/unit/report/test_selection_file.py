"""A sweep's selection, read back: in the words of today and of the release before."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from unlearn_runner.report.discovery import find_runs
from unlearn_runner.report.selection_file import selections


@pytest.mark.parametrize(
    ("jobs", "parts"), [("points", ("A", "B")), ("jobs", ("validation", "test"))]
)
def test_a_selection_of_either_release_is_read(
    jobs: str, parts: tuple[str, str], tmp_path: Path
) -> None:
    folder = tmp_path / "sweeps" / "s"
    (folder / "one").mkdir(parents=True)
    (folder / "one" / "status.json").write_text('{"status": "completed"}')
    scores = {"model_utility": {parts[0]: [0.5, 0.1], parts[1]: [0.4, None], "all": [0.45, None]}}
    content = {
        "criterion": {"stated": "least forget.probability", "peek": False},
        "selected": {"axes": {"train.lr": "0.1"}, jobs: ["one"], "scores": scores},
        "settings": [{"axes": {"train.lr": "0.1"}, jobs: ["one"], "why_not": None}],
        jobs: {"one": {"status": "completed"}},
    }
    (folder / "selection.json").write_text(json.dumps(content))
    runs = find_runs([folder]).runs
    (chosen,), problems = selections(runs)
    assert problems == []
    assert chosen.holds(runs[0])
    assert chosen.missing(runs) == 0
    assert chosen.selected is not None
    assert chosen.selected["scores"]["model_utility"]["validation"] == [0.5, 0.1]
    assert chosen.selected["scores"]["model_utility"]["test"] == [0.4, None]
