"""Every method on LoRA, with and without GRU and gradient checkpointing: what has a gradient."""

from __future__ import annotations

import math
from contextlib import nullcontext
from typing import Any

import pytest
import torch
from helpers.objectives import EVERY_METHOD, Workbench

from unlearn_runner.methods.base import Method
from unlearn_runner.models.adapters.lora import LoRA
from unlearn_runner.models.forward import Models
from unlearn_runner.models.load import for_training
from unlearn_runner.rectifiers.base import Rectifier
from unlearn_runner.rectifiers.gru import GRU, RISK
from unlearn_runner.rectifiers.none import NoRectifier
from unlearn_runner.training.engine import Engine

pytestmark = pytest.mark.usefixtures("one_thread")

RECTIFIERS: dict[str, Rectifier] = {"none": NoRectifier(), "gru": GRU(gamma=0.8)}
MAPS = {
    *(f"self_attn.{name}_proj" for name in "qkvo"),
    *(f"mlp.{name}_proj" for name in ("gate", "up", "down")),
}
TENSORS = {
    f"model.layers.{block}.{name}.lora_{letter}.default.weight"
    for block in range(2)
    for name in MAPS
    for letter in "AB"
}
BEHIND = {name for name in TENSORS if ".layers.1." in name}
"""Of the second block: RMU steers the state between the two (three eighths of two, rounded up)."""
BATCH = 4
QUICK = ("ga", "rmu")
CASES = [
    pytest.param(
        *(name, method, rectifier),
        id=f"{name}-{rectifier}",
        # GRU's two passes hold the methods' own.
        marks=[] if rectifier == "gru" or name in QUICK else [pytest.mark.long],
    )
    for name, method in EVERY_METHOD
    for rectifier in RECTIFIERS
]


def engine_for(
    bench: Workbench, method: Method, rectifier: Rectifier, checkpointing: bool
) -> Engine:
    adapter = LoRA(rank=4, alpha=8.0, dropout=0.0)
    model = for_training(adapter.attach(bench.llama(), 0), checkpointing)
    draw = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for tensor in model.parameters():
            if tensor.requires_grad and not tensor.any():  # with B = 0 no A has a gradient
                tensor.normal_(std=0.02, generator=draw)
    models = Models(model, adapter.start(model), nullcontext, seed=3)
    recipe = {"lr": 1e-2, "batch_size": BATCH, "micro_batch": 3}
    return bench.engine(method, rectifier, models, **recipe)


@pytest.fixture(scope="module")
def bench(tiny: Any) -> Workbench:
    return Workbench(tiny, torch.float32)


@pytest.mark.parametrize(("name", "method", "rectifier"), CASES)
def test_every_adapter_tensor_has_a_gradient(
    bench: Workbench, name: str, method: Method, rectifier: str
) -> None:
    """All but RMU's behind its layer; checkpointing changes no bit of gradients and weights."""
    found: dict[Any, list[torch.Tensor]] = {}
    loader = bench.step_loader(method, BATCH)
    for checkpointing in (False, True):
        engine = engine_for(bench, method, RECTIFIERS[rectifier], checkpointing)
        trained = engine.models.trained
        tensors = {n: p for n, p in trained.named_parameters() if p.requires_grad}
        assert set(tensors) == TENSORS
        began = {n: p.detach().clone() for n, p in tensors.items()}
        trained.train()
        gradients, losses = engine.gradients(loader.step(0))
        assert all(map(math.isfinite, losses.values()))
        for group, gradient in gradients.items():
            by_name = dict(zip(tensors, gradient, strict=True))
            without = {n for n, g in by_name.items() if g is None or not g.any()}
            assert without == (BEHIND if name == "rmu" and group != RISK else set()), group
            found[checkpointing, group] = [g.clone() for g in gradient if g is not None]
        facts = engine.step(loader.step(0))
        moved = {n for n, p in tensors.items() if not torch.equal(p, began[n])}
        # What rectifies a step reaches every tensor, whatever the method's own loss does.
        assert moved == (
            TENSORS - BEHIND if name == "rmu" and not facts.get("rectified") else TENSORS
        )
        found[checkpointing, "weights"] = [p.detach() for p in tensors.values()]
    for (checkpointing, what), entries in found.items():
        others = found[not checkpointing, what]
        assert all(torch.equal(a, b) for a, b in zip(entries, others, strict=True)), what
