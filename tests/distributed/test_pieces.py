"""LoRA on ranks ends where one process ends; a model in pieces is in pieces, all that is of it.

Both engines on two and on three ranks, in one short start of the ranks each.
"""

from __future__ import annotations

import pickle
from itertools import product
from pathlib import Path
from typing import Any

import pieces_crew as crew
import pytest
import ranked
import rectifiers_crew
import torch
from crew import ENGINES, engine_for
from helpers.adapters import EVERY_ADAPTER

from unlearn_runner.models.load import load_model
from unlearn_runner.pipeline.session import open_session
from unlearn_runner.rectifiers.gru import MEAN

pytestmark = [pytest.mark.usefixtures("one_thread"), pytest.mark.long]

TRAINED = 23_760
"""Of the model's 26,160 numbers: the first attention block is frozen."""
WORLDS = [2, 3]
CASES = [*crew.ADAPTED, "whole gd+gru", *rectifiers_crew.DEFAULT]


@pytest.fixture(scope="module")
def alone(place: Path) -> dict[str, Any]:
    """What one process finds."""
    rows = pickle.loads((place / "rows.pkl").read_bytes())
    session = open_session(ENGINES["single"])
    engines = {case: crew.adapted(place, rows, session, case) for case in crew.ADAPTED}
    engines["whole gd+gru"] = engine_for(place, rows, session, "gd+gru x2", "float64")
    found = {name: crew.run(engine, rows) for name, engine in engines.items()}
    found["fisher"] = crew.fisher(place, rows, session, EVERY_ADAPTER["fila"])
    rectified = {n: rectifiers_crew.run(place, rows, session, n) for n in rectifiers_crew.DEFAULT}
    return found | rectified


@pytest.fixture(scope="module", params=WORLDS)
def crewed(request: Any, place: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[Any, Any]:
    """What two and three ranks found."""
    folder = tmp_path_factory.mktemp("pieces")
    for name in ("rows.pkl", "model"):
        (folder / name).symlink_to(place / name)
    ranked.run(request.param, str(crew.__file__), str(folder))
    return {**torch.load(folder / "found.pt", weights_only=False), "world": request.param}


@pytest.mark.parametrize("engine", crew.CREWED)
def test_every_rank_has_the_row_weights_that_one_process_finds(
    alone: dict[str, Any], crewed: dict[Any, Any], engine: str
) -> None:
    first, *others = crewed[engine, "fisher"]
    assert set(first) == set(alone["fisher"])
    for name, weights in alone["fisher"].items():
        assert torch.allclose(first[name], weights, rtol=1e-6, atol=0), name
        assert all(torch.equal(first[name], other[name]) for other in others), name


@pytest.mark.parametrize(
    ("engine", "case"), [*product(crew.CREWED, CASES), ("offload", "whole gd+gru")]
)
def test_ranks_end_where_one_process_ends(
    alone: dict[str, Any], crewed: dict[Any, Any], engine: str, case: str
) -> None:
    before, facts, after = alone[case]
    start, others, found = crewed[engine, case]
    assert torch.equal(start, before)
    travelled = float((after - before).norm())
    assert travelled > 1e-3
    assert float((found - after).norm()) < 1e-10 * travelled
    for mine, theirs in zip(facts, others, strict=True):
        assert theirs == pytest.approx(mine, rel=1e-8, abs=1e-12)
    assert any(line["rectified"] for line in facts), "the rectifier must take part"


def test_every_rank_holds_its_piece_of_everything(place: Path, crewed: dict[Any, Any]) -> None:
    """Weights, a held start model, both groups' gradients, AdamW's moments, GRU's mean.

    Numbers of the storages: a piece is as long as the first rank's on every rank, padding included.
    """
    world = crewed["world"]
    model = load_model(place / "model", "float32", torch.device("cpu"))
    parameters = list(model.parameters())
    whole = sum(p.numel() for p in parameters)
    piece = sum(-(-len(p) // world) * (p.numel() // len(p)) for p in parameters)
    replicas, pieces = crewed["ddp", "held"], crewed["fsdp2", "held"]
    for rank in range(world):
        mine, all_of_it = pieces[rank], replicas[rank]
        assert mine["remembered"] == all_of_it["remembered"] == [MEAN], "nothing else may be whole"
        assert mine["weights"] == mine["start model"] == piece < 1.02 * whole / world
        assert all_of_it["weights"] == all_of_it["start model"] == whole
    for what in ("moments", "gradient of objective", "gradient of risk", "GRU's mean"):
        everything = replicas[0][what]
        assert everything == TRAINED * (2 if what == "moments" else 1)
        assert everything <= sum(mine[what] for mine in pieces) < 1.05 * everything, what
        assert max(mine[what] for mine in pieces) < 1.05 * everything / world, what


def test_a_checkpoint_has_a_piece_of_every_rank(crewed: dict[Any, Any]) -> None:
    world = crewed["world"]
    (whole,) = crewed["ddp", "held"][0]["files"].values()
    files = crewed["fsdp2", "held"][0]["files"]
    assert list(files) == [f"step-00000001.{rank}-of-{world}.pt" for rank in range(world)]
    for size in files.values():
        assert size < 1.25 * whole / world


def test_sampled_answers_do_not_depend_on_the_ranks(place: Path, crewed: dict[Any, Any]) -> None:
    expected = crew.alternates(place, open_session(ENGINES["single"]))
    assert len({text for texts in expected for text in texts}) > 40, "they are drawn"
    assert crewed["alternates"] == [expected] * crewed["world"]
