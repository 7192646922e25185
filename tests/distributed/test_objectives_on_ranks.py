"""Every objective has the gradient of one process on two, replicated and in shards."""

from __future__ import annotations

import pickle
from typing import Any

import objectives_crew
import pytest
import ranked
import torch
from helpers.objectives import EVERY_METHOD, Workbench

from unlearn_runner.models.load import save
from unlearn_runner.rectifiers.gru import GRU

pytestmark = pytest.mark.usefixtures("one_thread")

WORLD = 2


@pytest.fixture(scope="module")
def crew(tiny: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[Any, Any]:
    """What two ranks found."""
    folder = tmp_path_factory.mktemp("objectives")
    save(tiny.llama(), tiny.tokenizer, folder / "model")
    rows = {"forget": tiny.forget, "retain": tiny.retain, "pad": tiny.pad}
    (folder / "rows.pkl").write_bytes(pickle.dumps(rows))
    ranked.run(WORLD, str(objectives_crew.__file__), str(folder))
    return torch.load(folder / "found.pt", weights_only=False)


@pytest.mark.parametrize(("name", "method"), EVERY_METHOD, ids=[name for name, _ in EVERY_METHOD])
def test_two_ranks_have_the_gradient_of_one(
    tiny: Any, crew: dict[Any, Any], name: str, method: Any
) -> None:
    bench = Workbench(tiny, torch.float64)
    alone = bench.engine(method, GRU())
    expected, losses = alone.gradients(bench.step_loader(method).step(0))
    for engine in ("ddp", "fsdp2"):
        found, found_losses = crew[engine, name]
        assert found_losses == pytest.approx(losses, rel=1e-10, abs=1e-13)
        assert found.keys() == expected.keys()
        for group, gradient in expected.items():
            pairs = zip(gradient, alone.space.parameters, strict=True)
            entries = [torch.zeros_like(p) if g is None else g for g, p in pairs]
            whole = torch.cat([entry.reshape(-1) for entry in entries])
            apart = float((found[group] - whole).norm())
            assert 0 < apart < 1e-10 * float(whole.norm()), (engine, group)
