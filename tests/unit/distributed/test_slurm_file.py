"""The file of submitted jobs is believed where it names jobs by ids, and nowhere else."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from unlearn_runner.distributed.clusters.slurm import submitted_ids

FORGED = ['{"a": 1', "[" * 100_000, "[]", "7", "null", '"text"', "\x00", ""]


@pytest.mark.parametrize("text", FORGED, ids=range(len(FORGED)))
def test_what_is_no_such_file_is_nothing(text: str, tmp_path: Path) -> None:
    (tmp_path / "jobs.json").write_text(text)
    assert submitted_ids(tmp_path / "jobs.json") == {}
    assert submitted_ids(tmp_path / "absent.json") == {}


def test_only_ids_are_read(tmp_path: Path) -> None:
    good = {"one": "12_3", "two": "4"}
    bad = {"a": "--user=root", "b": "1;2", "c": "1_2_3", "d": 5, "e": None, "f": ["1"], "g": "1\n"}
    (tmp_path / "jobs.json").write_text(json.dumps(good | bad))
    assert submitted_ids(tmp_path / "jobs.json") == good
