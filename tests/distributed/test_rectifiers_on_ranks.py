"""Every rectifier ends on two ranks, replicated and in shards, where one process ends.

Two of them do by default, in `test_pieces.py`.
"""

from __future__ import annotations

import pickle
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import ranked
import rectifiers_crew as crew
import torch
from crew import ENGINES

from unlearn_runner.pipeline.session import open_session

pytestmark = [pytest.mark.usefixtures("one_thread"), pytest.mark.long]

WORLD = 2


@pytest.fixture(scope="module")
def crewed(place: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[Any, Any]:
    """What two ranks found."""
    folder = tmp_path_factory.mktemp("rectifiers")
    for name in ("rows.pkl", "model"):
        (folder / name).symlink_to(place / name)
    ranked.run(WORLD, str(crew.__file__), str(folder))
    return torch.load(folder / "found.pt", weights_only=False)


@pytest.mark.parametrize(("name", "engine"), product(crew.RECTIFIERS, ("ddp", "fsdp2")))
def test_two_ranks_end_where_one_ends(
    place: Path, crewed: dict[Any, Any], name: str, engine: str
) -> None:
    rows = pickle.loads((place / "rows.pkl").read_bytes())
    before, facts, after = crew.run(place, rows, open_session(ENGINES["single"]), name)
    start, others, found = crewed[engine, name]
    assert torch.equal(start, before)
    travelled = float((after - before).norm())
    assert travelled > 1e-3
    assert float((found - after).norm()) < 1e-10 * travelled
    for mine, theirs in zip(facts, others, strict=True):
        if mine["retain_norm"] < 1e-6 * mine["objective_norm"]:
            # KL's gradient before the first step: rounding has no direction, on any ranks.
            mine, theirs = ({**line, "cosine": 0.0, "conflict": 0.0} for line in (mine, theirs))
        assert theirs == pytest.approx(mine, rel=1e-8, abs=1e-12)
    assert any(line["rectified"] for line in facts), "the rectifier must take part"
