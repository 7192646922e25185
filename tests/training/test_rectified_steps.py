"""Every rectifier in the training step: what is kept and restored, adapters, clipping, noise.

The table is `helpers/rectifiers.py`.
"""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.objectives import Workbench
from helpers.rectifiers import EVERY_RECTIFIER, FACTS, NAMES, Case

from unlearn_runner.methods.base import Method, Retain
from unlearn_runner.methods.ga import GA
from unlearn_runner.models.adapters.lora import LoRA
from unlearn_runner.models.forward import Models
from unlearn_runner.models.load import for_training
from unlearn_runner.training import checkpoint
from unlearn_runner.training.engine import Engine

pytestmark = pytest.mark.usefixtures("one_thread")

every = pytest.mark.parametrize("case", EVERY_RECTIFIER, ids=NAMES)
HALF, STEPS, BATCH = 2, 3, 6
GD = GA(Retain("nll", 0.05))
"""Little of the retain term: what is left of the forget gradient conflicts."""
CLIP = 0.01


@pytest.fixture(scope="module")
def bench(tiny: Any) -> Workbench:
    return Workbench(tiny, None)


def by_name(case: Case) -> str:
    return case.name


def adapted(bench: Workbench) -> Models:
    """Returns a model with LoRA, whose start model is itself with the adapter off."""
    adapter = LoRA(rank=3, alpha=6.0, dropout=0.0)
    model = for_training(adapter.attach(bench.llama(), 5), False)
    return Models(model, adapter.start(model), nullcontext)


def engine_of(bench: Workbench, case: Case, method: Method, lora: bool, **recipe: Any) -> Engine:
    models = adapted(bench) if lora else None
    settings = {"lr": 1e-3, "batch_size": BATCH, "steps": STEPS, **recipe}
    engine = bench.engine(method, case.rectifier, models, **settings)
    engine.models.trained.train()
    return engine


def taken(bench: Workbench, engine: Engine, first: int, last: int) -> list[dict[str, Any]]:
    """Takes steps; returns their telemetry."""
    loader = bench.step_loader(GD, BATCH)
    return [engine.step(loader.step(step)) for step in range(first, last)]


def trained(engine: Engine) -> list[torch.Tensor]:
    return [p.detach().clone() for p in engine.models.trained.parameters() if p.requires_grad]


@every
@pytest.mark.parametrize(
    "lora", [pytest.param(False, id="whole", marks=pytest.mark.long), pytest.param(True, id="lora")]
)
def test_what_is_restored_goes_on_bit_for_bit(
    bench: Workbench, case: Case, lora: bool, tmp_path: Path
) -> None:
    straight = engine_of(bench, case, GD, lora)
    before = trained(straight)
    facts = taken(bench, straight, 0, HALF)
    checkpoint.save(tmp_path, "key", HALF, straight.state(HALF))
    later = taken(bench, straight, HALF, STEPS)
    assert all(set(FACTS) <= line.keys() for line in (*facts, *later))
    assert any(line["rectified"] for line in (*facts, *later)), "or nothing was checked"
    resumed = engine_of(bench, case, GD, lora)
    state = checkpoint.load(tmp_path, "key", resumed.device)
    assert state is not None
    assert resumed.restore(state) == HALF
    assert taken(bench, resumed, HALF, STEPS) == later
    after = trained(straight)
    assert all(torch.equal(a, b) for a, b in zip(after, trained(resumed), strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(after, before, strict=True))


@every
def test_clip_bounds_what_is_stepped_with(bench: Workbench, case: Case) -> None:
    """`train.clip`, whatever the rectifier knows of its gradient's norm; a tau takes its place."""
    engine = engine_of(bench, case, GD, False, clip=CLIP)
    norms: list[float] = []

    def see(optimizer: Any, *_: object) -> None:
        grads = [p.grad for p in optimizer.param_groups[0]["params"] if p.grad is not None]
        norms.append(float(torch.cat([g.reshape(-1).double() for g in grads]).norm()))

    engine.optimizer.register_step_pre_hook(see)
    for facts, norm in zip(taken(bench, engine, 0, HALF), norms, strict=True):
        if case.rectifier.bounds_norm:
            assert norm == pytest.approx(facts["grad_norm"], rel=1e-5)
        else:
            assert norm == pytest.approx(CLIP, rel=1e-4)
            assert facts["grad_norm"] > 2 * CLIP, "or nothing was cut"


@pytest.mark.parametrize("case", [c for c in EVERY_RECTIFIER if c.by_start_model], ids=by_name)
def test_a_start_model_has_no_direction_at_the_start(bench: Workbench, case: Case) -> None:
    """KL's gradient is rounding in the first step: nothing is rectified by it, and then it is."""
    engine = engine_of(bench, case, GA(Retain("kl", 0.1)), False)
    first, *later = taken(bench, engine, 0, STEPS)
    assert first["retain_norm"] < 1e-5 * first["objective_norm"]
    assert first["rectified"] is False
    assert any(line["rectified"] for line in later)
