"""What a job says, behind each stage, of the time that those to come will take."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from helpers.text_stages import Text, execute

from unlearn_runner.store.store import Store, _own_digest
from unlearn_runner.utils.files import render_json


class Other(Text):
    """A stage of which no other of its kind has been measured."""

    kind = "other"
    __hash__ = None  # type: ignore[assignment]  # as stages with dictionaries of settings


def test_stages_to_come_take_what_those_of_their_kind_took(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second, third = Text("first", "a"), Text("second", "b"), Text("third", "c")
    known, unknown = Text("known", "k"), Other("unknown", "u")
    execute(tmp_path, [known], [known])
    file = Store(tmp_path / "store").path(known) / "manifest.json"
    manifest = {**json.loads(file.read_text()), "seconds": 100.0}
    manifest["sha256"] = _own_digest(manifest)
    file.write_text(render_json(manifest))
    capsys.readouterr()
    stages = [first, second, unknown, third, known]
    execute(tmp_path, stages, stages)
    said = capsys.readouterr().err.splitlines()
    ends = [line.partition(", ")[2] for line in said if line.startswith("[")]
    assert ends == [
        "more than 3m 20s left",
        "more than 1m 40s left",
        "about 1m 40s left",
        "",
        "",
    ]
