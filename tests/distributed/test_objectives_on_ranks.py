"""Every objective has the gradient of one process on two, replicated and in shards."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from functools import cache
from pathlib import Path
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


DEFAULT = ("kl, all positions", "npo", "idk, concatenated", "rmu")
"""Of different kinds of loss, retain term and normaliser; the others are `long`."""
LONG = [name for name, _ in EVERY_METHOD if name not in DEFAULT]
CASES = [
    pytest.param(name, method, id=name, marks=[pytest.mark.long] if name in LONG else [])
    for name, method in EVERY_METHOD
]


@pytest.fixture(scope="module")
def crews(tiny: Any, tmp_path_factory: pytest.TempPathFactory) -> Callable[[bool], dict[Any, Any]]:
    """What two ranks found of the default or of the long cases, when it is first wanted."""
    return cache(lambda long: _crew(tiny, tmp_path_factory.mktemp("objectives"), long))


def _crew(tiny: Any, folder: Path, long: bool) -> dict[Any, Any]:
    (folder / "names").write_text("\n".join(LONG if long else DEFAULT))
    save(tiny.llama(), tiny.tokenizer, folder / "model")
    rows = {"forget": tiny.forget, "retain": tiny.retain, "pad": tiny.pad}
    (folder / "rows.pkl").write_bytes(pickle.dumps(rows))
    ranked.run(WORLD, str(objectives_crew.__file__), str(folder))
    return torch.load(folder / "found.pt", weights_only=False)


@pytest.mark.parametrize(("name", "method"), CASES)
def test_two_ranks_have_the_gradient_of_one(
    tiny: Any, crews: Callable[[bool], dict[Any, Any]], name: str, method: Any
) -> None:
    crew = crews(name in LONG)
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
