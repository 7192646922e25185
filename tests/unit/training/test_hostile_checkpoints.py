"""A checkpoint's manifest names files beside it, or the checkpoint counts as damaged."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch

from unlearn_runner.errors import DataError
from unlearn_runner.training import checkpoint
from unlearn_runner.utils.files import sha256

CPU = torch.device("cpu")
GOOD = "step-00000006.pt"


def manifests(folder: Path) -> dict[str, Any]:
    """Forged manifests, each with the right hash of a file outside where it names one."""
    outside = folder.parent / "outside.pt"
    facts = {"size": 1, "sha256": sha256(outside)}
    own = {"size": 1, "sha256": sha256(folder / GOOD)}
    named: dict[str, Any] = {
        "above": {"../outside.pt": facts},
        "absolute": {str(outside): facts},
        "above, below": {"x/../../outside.pt": facts},
        "dots": {"..": facts},
        "empty name": {"": facts},
        "no suffix": {"step-00000006": facts},
        "no step": {"x.pt": facts},
        "a null byte": {"step-00000006.pt\0": facts},
        "a newline": {"step-00000006.pt\n": facts},
        "a rank that is none": {"step-00000006.a-of-b.pt": facts},
        "one good, one not": {GOOD: own, "../outside.pt": facts},
        "a list of names": [GOOD],
        "text": GOOD,
        "a number": 7,
        "null": None,
        "no hash": {GOOD: {"size": 1}},
        "a hash that is a list": {GOOD: {"sha256": [own["sha256"]]}},
        "facts that are text": {GOOD: own["sha256"]},
        "facts that are null": {GOOD: None},
    }
    return {name: {"key": "key", "step": 6, "files": files} for name, files in named.items()}


NAMES = (
    "above",
    "absolute",
    "above, below",
    "dots",
    "empty name",
    "no suffix",
    "no step",
    "a null byte",
    "a newline",
    "a rank that is none",
    "one good, one not",
    "a list of names",
    "text",
    "a number",
    "null",
    "no hash",
    "a hash that is a list",
    "facts that are text",
    "facts that are null",
)


@pytest.mark.parametrize("name", NAMES)
def test_a_forged_manifest_is_set_aside_and_nothing_outside_is_touched(
    name: str, tmp_path: Path
) -> None:
    folder = tmp_path / "checkpoints"
    folder.mkdir()
    torch.save({"step": 666}, tmp_path / "outside.pt")
    checkpoint.save(folder, "key", 3, {"step": 3})
    checkpoint.save(folder, "key", 6, {"step": 6})
    forged = manifests(folder)
    assert set(forged) == set(NAMES)
    (folder / "step-00000006.json").write_text(json.dumps(forged[name]))
    before = (tmp_path / "outside.pt").read_bytes()
    assert checkpoint.load(folder, "key", CPU) == {"step": 3}
    assert (tmp_path / "outside.pt").read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoints", "outside.pt"]


def test_a_deep_manifest_is_set_aside(tmp_path: Path) -> None:
    checkpoint.save(tmp_path, "key", 3, {"step": 3})
    (tmp_path / "step-00000006.json").write_text("[" * 100_000)
    assert checkpoint.load(tmp_path, "key", CPU) == {"step": 3}


class Bomb:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return (Path.touch, (self.path,))


def test_a_pickle_with_the_right_hash_does_not_run(tmp_path: Path) -> None:
    folder = tmp_path / "checkpoints"
    folder.mkdir()
    checkpoint.save(folder, "key", 3, {"step": 3})
    (folder / "step-00000003.pt").write_bytes(pickle.dumps(Bomb(tmp_path / "ran"), protocol=2))
    digest = sha256(folder / "step-00000003.pt")
    facts = {"key": "key", "step": 3, "files": {"step-00000003.pt": {"sha256": digest}}}
    (folder / "step-00000003.json").write_text(json.dumps(facts))
    with pytest.raises(DataError, match="no checkpoint"):
        checkpoint.load(folder, "key", CPU)
    assert not (tmp_path / "ran").exists()
