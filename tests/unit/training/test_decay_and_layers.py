"""`train.decay_norms`, `train.l2`, and which blocks RMU's `layer` reaches."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn.utils import parameters_to_vector

from unlearn_runner.methods.base import Method, Retain
from unlearn_runner.methods.ga import GA
from unlearn_runner.methods.rmu import RMU
from unlearn_runner.models.forward import Models
from unlearn_runner.rectifiers.gru import GRU
from unlearn_runner.rectifiers.none import NoRectifier
from unlearn_runner.training import checkpoint
from unlearn_runner.training.batches import StepLoader
from unlearn_runner.training.engine import Engine
from unlearn_runner.training.recipe import Recipe

pytestmark = pytest.mark.usefixtures("one_thread")


def engine_for(tiny: Any, method: Method, rectifier: Any, **recipe: Any) -> Engine:
    settings = {"lr": 1e-2, "batch_size": 8, "steps": 6, "weight_decay": 0.5, **recipe}
    models = Models(tiny.llama(), tiny.llama().eval(), nullcontext)
    rows = len(tiny.forget)
    return Engine(models, method.terms(), Recipe(**settings), rows, tiny.pad, rectifier)


@pytest.mark.parametrize("decay_norms", [True, False])
def test_norms_are_decayed_or_exempt(tiny: Any, decay_norms: bool) -> None:
    engine = engine_for(tiny, GA(), NoRectifier(), decay_norms=decay_norms)
    before = [p.detach().clone() for p in engine.space.parameters]
    for parameter in engine.space.parameters:
        parameter.grad = torch.zeros_like(parameter)
    engine.optimizer.step()
    assert {p.dim() for p in before} == {1, 2}
    for was, now in zip(before, engine.space.parameters, strict=True):
        decayed = was.dim() == 2 or decay_norms
        torch.testing.assert_close(now.detach(), was * (1 - 1e-2 * 0.5) if decayed else was)


def test_l2_is_a_part_of_what_is_minimised(tiny: Any) -> None:
    engine = engine_for(tiny, GA(Retain("none")), NoRectifier(), l2=0.3, clip=None)
    rows = StepLoader("forget", tiny.forget, 8, 0, tiny.retain).step(0)
    (gradient,) = engine.gradients(rows)[0].values()
    pairs = zip(gradient, engine.space.parameters, strict=True)
    expected = sum(float((g + 0.3 * p.detach()).double().square().sum()) for g, p in pairs) ** 0.5
    assert engine.step(rows)["grad_norm"] == pytest.approx(expected, rel=1e-5)


def test_moments_return_to_their_own_parameters(tiny: Any, tmp_path: Path) -> None:
    """Exempt parameters are numbered after the others by the optimizer."""
    loader = StepLoader("forget", tiny.forget, 8, 0, tiny.retain)
    whole, half, fresh = (
        engine_for(tiny, GA(), GRU(), decay_norms=False, schedule="linear") for _ in range(3)
    )
    for step in range(6):
        whole.step(loader.step(step))
    for step in range(3):
        half.step(loader.step(step))
    checkpoint.save(tmp_path, "key", 3, half.state(3))
    state = checkpoint.load(tmp_path, "key", torch.device("cpu"))
    assert state is not None
    assert fresh.restore(state) == 3
    for step in range(3, 6):
        fresh.step(loader.step(step))
    found, expected = (parameters_to_vector(e.models.trained.parameters()) for e in (fresh, whole))
    assert torch.equal(found, expected)


@pytest.mark.parametrize("layer", [1, 2])
def test_a_module_named_n_is_steered_by_layer_n_plus_one(tiny: Any, layer: int) -> None:
    """open-unlearning's `layers.7` is `layer=8`: at 7 it would have no gradient."""
    engine = engine_for(tiny, RMU(Retain("none"), layer=layer), NoRectifier())
    rows = StepLoader("forget", tiny.forget, 8, 0, tiny.retain).step(0)
    (gradient,) = engine.gradients(rows)[0].values()
    named = [name for name, _ in engine.models.trained.named_parameters()]
    reached = {
        name.split(".")[2]
        for name, entry in zip(named, gradient, strict=True)
        if ".layers." in name and entry is not None and bool(entry.any())
    }
    assert reached == {str(block) for block in range(layer)}
