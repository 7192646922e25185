"""DDP and FSDP2 on two and three real ranks give the numbers of one process.

Parameters of odd shapes, tied embeddings, a frozen part, batches that neither ranks nor
micro-batches divide. A plain float64 loop that shares no code with the engine stands beside them.
"""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import crew
import pytest
import ranked
import torch
from helpers.plain_loop import FlatAdamW, flat_gradient, mean_nll, mean_npo, trained

CREW = str(Path(crew.__file__))
CREWS = [("ddp", 2), ("fsdp2", 2), ("fsdp2-last", 3), ("fsdp2", 3), ("ddp", 3)]
"""Those of three ranks continue what those of two have left."""
PROFILED = "all-reduces in the profile"
MANY = [pytest.param(f"{engine} {world}", marks=pytest.mark.long) for engine, world in CREWS]
"""`test_pieces.py` and `test_objectives_on_ranks.py` have both engines on two ranks by default."""


class Found(dict[str, Any]):
    """What one process and every crew found; a crew is run when it is first asked for."""

    def __init__(self, place: Path, factory: pytest.TempPathFactory) -> None:
        self.place, self.factory = place, factory
        self.folders: dict[str, Path] = {}

    def __missing__(self, name: str) -> Any:
        engine, world = name.split()
        sources = []
        if world == "3":
            assert self["ddp 2"]
            assert self["fsdp2 2"]
            sources = [self.folders["ddp 2"], self.folders["fsdp2 2"]]
        folder = self.folders[name] = self.factory.mktemp(name.replace(" ", ""))
        (folder / "rows.pkl").symlink_to(self.place / "rows.pkl")
        (folder / "model").symlink_to(self.place / "model")
        ranked.run(int(world), CREW, str(folder), engine, *map(str, sources))
        self[name] = torch.load(folder / "found.pt", weights_only=False)
        return self[name]


@pytest.fixture(scope="module")
def crews(place: Path, tmp_path_factory: pytest.TempPathFactory) -> Found:
    return Found(place, tmp_path_factory)


def distance(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a.double() - b.double()).norm())


@pytest.mark.parametrize("name", MANY)
@pytest.mark.parametrize("case", crew.LONG)
def test_twenty_float64_steps_end_where_one_process_ends(
    crews: Found, name: str, case: str
) -> None:
    before, facts, after = crews["single 1"][case]
    start, others, found = crews[name][case]
    assert crews[name]["world"] == int(name.split()[1])
    assert torch.equal(start, before)
    travelled = distance(after, before)
    assert travelled > 1e-2
    assert distance(found, after) < 1e-10 * travelled
    assert len(facts) == len(others) == crew.STEPS
    for mine, theirs in zip(facts, others, strict=True):
        assert theirs == pytest.approx(mine, rel=1e-8, abs=1e-12)
    if "gru" in case:
        assert sum(bool(f["rectified"]) for f in facts) > 0, "GRU must take part"


@pytest.mark.parametrize("case", ["ga+gru", "gd+gru", "npo+none"])
def test_one_process_takes_the_steps_of_a_plain_loop(place: Path, crews: Found, case: str) -> None:
    """And so do all crews, by the test above."""
    from unlearn_runner.models.load import load_model

    rows = pickle.loads((place / "rows.pkl").read_bytes())
    steps = crew.loader_for(rows)
    model, start = (load_model(place / "model", "float64", torch.device("cpu")) for _ in range(2))
    crew.freeze(model)
    parameters = trained(model)
    w = torch.cat([p.detach().reshape(-1) for p in parameters])
    adam, mean = FlatAdamW(len(w)), torch.zeros_like(w)
    for step in range(crew.STEPS):
        splits = steps.step(step).splits
        kept = flat_gradient(model, mean_nll(model, splits["retain"]))
        if case.startswith("npo"):
            g = flat_gradient(model, mean_npo(model, start, splits["forget"], 0.5)) + 0.2 * kept
        else:
            g = -flat_gradient(model, mean_nll(model, splits["forget"]))
            g = g + (0.2 * kept if case.startswith("gd") else 0)
        if case.endswith("gru"):
            mean = 0.2 * mean + 0.8 * kept
            if g @ mean < 0:
                g = g - (g @ mean) / (mean @ mean) * mean
        bound = 1.0 if case == "gd+gru" else 0.7  # tau, or else the recipe's clip
        norm = float(g.norm())
        w = adam.step(w, g * min(1.0, bound / (norm + 1e-6)), 1e-4)
        torch.nn.utils.vector_to_parameters(w, parameters)
    state = model.state_dict()
    expected = torch.cat([state[name].reshape(-1) for name in sorted(state)])
    before, _, after = crews["single 1"][case]
    assert distance(after, expected.detach()) < 1e-9 * distance(after, before)


@pytest.mark.parametrize("name", MANY)
@pytest.mark.parametrize("case", crew.CASES)
def test_the_first_float32_gradients_agree(crews: Found, name: str, case: str) -> None:
    expected, losses = crews["single 1"][f"gradient {case}"]
    found, others = crews[name][f"gradient {case}"]
    assert distance(found, expected) < 1e-5 * float(expected.norm())
    assert others == pytest.approx(losses, rel=1e-5, abs=1e-6)


@pytest.mark.parametrize("name", MANY)
def test_the_union_of_the_ranks_rows_is_the_one_process_draw(crews: Found, name: str) -> None:
    assert crews[name]["rows"] == crews["single 1"]["rows"]
    assert len(crews[name]["rows"]) == 3 * 2 * crew.BATCH


@pytest.mark.parametrize("name", MANY)
def test_evidence_does_not_depend_on_the_ranks_that_take_it(crews: Found, name: str) -> None:
    """Each row once, odd numbers of rows included; the trained model may be in shards."""
    for model in ("whole", "trained"):
        expected, texts = crews["single 1"]["asked"][model]
        found, others = crews[name]["asked"][model]
        assert len(found) == len(expected) == 23
        for a, b in zip(found, expected, strict=True):
            torch.testing.assert_close(torch.tensor(a), torch.tensor(b), rtol=0, atol=1e-5)
        assert others == texts


@pytest.mark.parametrize("name", MANY)
@pytest.mark.parametrize("case", ["gd+gru", "npo+none"])
def test_a_checkpoint_of_any_number_of_ranks_is_continued_by_any_other(
    crews: Found, name: str, case: str
) -> None:
    before, _, after = crews["single 1"][case]
    travelled = distance(after, before)
    continued = [key for key in crews[name] if key.startswith(f"continued {case}")]
    assert len(continued) == (3 if name.endswith("3") else 1)
    for key in continued:
        assert distance(crews[name][key], after) < 1e-10 * travelled, key
    own = crews[name][f"continued {case} from {crews.folders[name].name}"]
    assert torch.equal(own, crews[name][case][2]), "the same bits on the same ranks"


@pytest.mark.parametrize(
    "source",
    [pytest.param(n, marks=pytest.mark.long) for n in ("ddp 2", "fsdp2 2", "fsdp2-last 3")],
)
def test_one_process_continues_what_many_have_left(crews: Found, source: str) -> None:
    from unlearn_runner.pipeline.session import open_session

    assert crews[source]
    folder = crews.folders[source]
    rows = pickle.loads((folder / "rows.pkl").read_bytes())
    session = open_session(crew.ENGINES["single"])
    for case in ("gd+gru", "npo+none"):
        before, _, after = crews["single 1"][case]
        found = crew.continued(folder, folder, rows, session, case)
        assert distance(found, after) < 1e-10 * distance(after, before)


@pytest.mark.parametrize("name", MANY)
def test_gru_costs_one_all_reduce_of_a_few_numbers(crews: Found, name: str) -> None:
    """No step gathers whole gradients for a rectifier; what is gathered is FSDP2's own.

    GradDiff alone makes one pass over two terms, GRU two passes of one term each: the same number
    of forward and backward passes, one gradient message more where gradients are replicas.
    """
    plain, gru = crews[name]["collectives gd+none"], crews[name]["collectives gd+gru"]
    assert gru["scalars"] == plain["scalars"] + 1
    assert plain["scalars"] == 2, "losses, and the gradient's norm"
    # None goes past the function that was counted: functional collectives would.
    for found in (plain, gru):
        assert found[PROFILED] == found["scalars"] + found["gradients"]
    if name.startswith("ddp"):
        assert (plain["gradients"], gru["gradients"]) == (1, 2)
        assert set(plain) == set(gru) == {"scalars", "gradients", PROFILED}
    else:
        assert gru["gradients"] == plain["gradients"] == 0
        assert plain["all_gather"] > 0, "FSDP2's own messages are counted, too"
        for kind in set(plain) | set(gru):
            if kind not in ("scalars", PROFILED) and name.startswith("fsdp2 "):
                assert gru[kind] == plain[kind], kind


@pytest.mark.parametrize("name", ["single 1", *MANY])
def test_one_lost_weight_is_counted_once_and_all_ranks_agree(crews: Found, name: str) -> None:
    """Wherever it lies: here in the last piece, which under FSDP2 one rank alone holds."""
    lines = crews[name]["diverged"]
    assert len(lines) == int(name.split()[1])
    for in_step, after in lines:
        for line, found in ((in_step, "in the step"), (after, "after the step")):
            assert line["found"] == found
            first = "model.embed_tokens.weight"
            assert line["weights"] == {"first": first, "tensors": 1, "numbers": 1}
            # The embeddings are tied: the lost one is in every softmax.
            assert line["not_finite"]["loss/forget"] == "nan"
        assert repr((in_step, after)) == repr(tuple(lines[0]))


@pytest.mark.parametrize("name", MANY)
def test_sharded_models_alone_are_in_shards(crews: Found, name: str) -> None:
    assert crews[name]["class"].startswith("FSDP") == name.startswith("fsdp2")
