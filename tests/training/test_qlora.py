"""QLoRA: what it begins with, what is trained, and what is said without its extra."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.adapters import PLAIN

from unlearn_runner.api import compose
from unlearn_runner.data.encode import collate
from unlearn_runner.errors import ConfigError
from unlearn_runner.methods.base import Retain
from unlearn_runner.methods.ga import GA
from unlearn_runner.models.adapters.base import Base
from unlearn_runner.models.adapters.qlora import QLoRA
from unlearn_runner.models.forward import Models, scored_logits
from unlearn_runner.models.load import for_training, load_frozen, load_model, new_model, save
from unlearn_runner.models.shape import Shape
from unlearn_runner.rectifiers.gru import GRU
from unlearn_runner.training.batches import StepLoader
from unlearn_runner.training.engine import Engine
from unlearn_runner.training.recipe import Recipe

CPU = torch.device("cpu")


def test_without_bitsandbytes_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("unlearn_runner.models.adapters.qlora.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="needs bitsandbytes") as caught:
        compose("adapter=qlora")
    assert "unlearn-runner[qlora]" in caught.value.fix


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        (["parallel=fsdp2"], "packed into bytes"),
        (["parallel=fsdp2", "adapter=none", "target.adapter=qlora"], "target.adapter: fsdp2"),
        (["train.precision=float64"], "train.precision=float64"),
        (["adapter.base_dtype=bf16"], "four bits"),
    ],
)
def test_what_does_not_go_with_four_bits_is_refused(
    monkeypatch: pytest.MonkeyPatch, overrides: list[str], says: str
) -> None:
    monkeypatch.setattr("unlearn_runner.models.adapters.qlora.find_spec", lambda name: True)
    with pytest.raises(ConfigError, match=says):
        compose("adapter=qlora", *overrides)


@pytest.mark.usefixtures("one_thread")
def test_it_trains_beside_four_bits(tiny: Any, tmp_path: Path) -> None:
    """KL's start model is the 4-bit one, and looking at it costs no tensor a gradient."""
    pytest.importorskip("bitsandbytes", reason="adapter=qlora is the extra qlora")
    shape = Shape(64, 128, num_layers=2, num_heads=2, tie_embeddings=True, context=128)
    save(new_model(shape, tiny.tokenizer, 0), tiny.tokenizer, tmp_path / "base")
    adapter = QLoRA(**PLAIN)

    def loaded() -> Any:
        return load_model(tmp_path / "base", "float32", CPU, storage=adapter.storage)

    def logits(model: Any) -> torch.Tensor:
        with torch.no_grad():
            return scored_logits(model.eval(), collate(tiny.forget, tiny.pad, CPU))

    before = logits(loaded())
    model = adapter.attach(loaded(), 0)
    assert torch.equal(logits(model), before), "B is zero"
    whole = logits(load_model(tmp_path / "base", "float32", CPU))
    assert 0 < float((before - whole).norm()) < 0.2 * float(whole.norm()), "four bits round"
    tensors = {n: p for n, p in model.named_parameters() if p.requires_grad}
    assert len(tensors) == 2 * 2 * 7
    assert {p.dtype for p in tensors.values()} == {torch.float32}
    engine = Engine(
        Models(for_training(model, True), adapter.start(model), nullcontext),
        GA(retain=Retain("kl", 1.0)).terms(),
        Recipe(lr=1e-2, batch_size=8, steps=8, micro_batch=4),
        len(tiny.forget),
        tiny.pad,
        GRU(gamma=0.8),
    )
    loader = StepLoader("forget", tiny.forget, 8, 0, tiny.retain)
    for step in range(3):
        model.train()
        gradients, _ = engine.gradients(loader.step(step))
        engine.step(loader.step(step))
    for gradient in gradients.values():
        assert all(entry is not None and bool(entry.any()) for entry in gradient)
    adapter.save(model, tiny.tokenizer, tmp_path / "kept", Base(tmp_path / "base", "x"), "float32")
    kept = load_frozen(tmp_path / "kept", "float32", CPU, base=tmp_path / "base")
    moved = logits(kept) - whole
    assert float((moved - (logits(model) - before)).norm()) < 0.5 * float(moved.norm())
