"""Every adapter: how it begins, what has a gradient, how it resumes, what is kept of it."""

from __future__ import annotations

import json
import subprocess
import sys
from contextlib import nullcontext
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.adapters import BEGINS_ELSEWHERE, EVERY_ADAPTER, attached, row_weights
from safetensors.torch import load_file

from unlearn_runner.data.encode import collate
from unlearn_runner.distributed.layout import trainable_state
from unlearn_runner.methods.base import Retain
from unlearn_runner.methods.ga import GA
from unlearn_runner.models.adapters.base import Base
from unlearn_runner.models.adapters.lora import AdapterOff, LoRA
from unlearn_runner.models.adapters.targets import linear_modules
from unlearn_runner.models.forward import Models, scored_logits
from unlearn_runner.models.load import for_training, load_frozen, save
from unlearn_runner.rectifiers.base import Rectifier
from unlearn_runner.rectifiers.gru import GRU
from unlearn_runner.rectifiers.multi_objective.mgda import MGDA
from unlearn_runner.rectifiers.none import NoRectifier
from unlearn_runner.training.batches import StepLoader
from unlearn_runner.training.engine import Engine
from unlearn_runner.training.recipe import Recipe

pytestmark = pytest.mark.usefixtures("one_thread")

CPU = torch.device("cpu")
RECTIFIERS: dict[str, Rectifier] = {
    "none": NoRectifier(),
    "gru": GRU(gamma=0.8),
    "mgda": MGDA(),
}
METHOD = GA(retain=Retain("nll", 0.2))
TENSORS = {"dora": 3}
"""Trained tensors beside each linear map, where they are not two."""


def engine_for(
    tiny: Any, name: str, rectifier: str = "none", checkpointing: bool = False, model: Any = None
) -> Engine:
    model = attached(tiny, EVERY_ADAPTER[name]) if model is None else model
    return Engine(
        models=Models(for_training(model, checkpointing), None, nullcontext),
        terms=METHOD.terms(),
        recipe=Recipe(lr=1e-2, batch_size=8, steps=20, micro_batch=4),
        num_rows=len(tiny.forget),
        pad=tiny.pad,
        rectifier=RECTIFIERS[rectifier],
    )


def loader_for(tiny: Any) -> StepLoader:
    return StepLoader("forget", tiny.forget, 8, 0, tiny.retain)


def logits(model: Any, rows: list[Any], pad: int) -> torch.Tensor:
    with torch.no_grad():
        return scored_logits(model.eval(), collate(rows, pad, CPU))


def off(model: Any, tiny: Any) -> torch.Tensor:
    """Logits without the adapter."""
    batch = collate(tiny.forget, tiny.pad, CPU)
    return Models(model, AdapterOff(model), nullcontext).start_logits(batch)


def trained(tiny: Any, adapter: LoRA, name: str) -> Any:
    """A model whose adapter has moved."""
    engine, loader = engine_for(tiny, name, model=attached(tiny, adapter)), loader_for(tiny)
    for step in range(3):
        engine.step(loader.step(step))
    return engine.models.trained


# --- how it begins


@pytest.mark.parametrize("name", EVERY_ADAPTER)
def test_the_start_of_a_run_computes_what_the_target_computes(tiny: Any, name: str) -> None:
    adapter = EVERY_ADAPTER[name]
    for dtype, bound in ((torch.float32, 1e-5), (torch.float64, 1e-12)):
        before = logits(tiny.llama(dtype), tiny.forget, tiny.pad)
        model = attached(tiny, adapter, dtype)
        assert float((logits(model, tiny.forget, tiny.pad) - before).abs().max()) < bound
        start = adapter.start(model)
        assert (start is not None) is adapter.holds_start is (name not in BEGINS_ELSEWHERE)
        found = off(model, tiny)
        gap = float((found - before).abs().max())
        # Without the adapter only the residual is left: no start model for anybody.
        assert gap > 1e-2 if name in BEGINS_ELSEWHERE else gap == 0


def test_doras_magnitudes_are_row_norms_and_turning_it_off_ignores_them(tiny: Any) -> None:
    model = attached(tiny, EVERY_ADAPTER["dora"])
    for name, module in linear_modules(tiny.llama()).items():
        found = model.get_submodule(f"{name}.lora_magnitude_vector.default").weight
        assert torch.allclose(found, module.weight.norm(dim=1), rtol=1e-6)
        with torch.no_grad():
            found *= 3
    start = off(model, tiny)
    assert torch.equal(start, logits(tiny.llama(), tiny.forget, tiny.pad))
    assert not torch.allclose(logits(model, tiny.forget, tiny.pad), start, atol=1e-2)


@pytest.mark.parametrize("name", EVERY_ADAPTER)
def test_over_a_bf16_base_it_begins_within_a_rounding(tiny: Any, name: str) -> None:
    """One bf16 rounding of the residual, relative to the largest logit; nothing where B is zero."""
    adapter = replace(EVERY_ADAPTER[name], base_dtype="bf16")
    weights = row_weights(adapter, tiny.llama(), tiny.forget, tiny.retain, tiny.pad)
    model = adapter.attach(tiny.llama(torch.bfloat16), 0, weights)
    assert {p.dtype for p in model.parameters() if p.requires_grad} == {torch.float32}
    before = logits(tiny.llama(torch.bfloat16), tiny.forget, tiny.pad)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        gap = (logits(model, tiny.forget, tiny.pad) - before).abs().max()
    assert float(gap) <= (0 if name in ("lora", "rslora") else 0.02 * float(before.abs().max()))


def test_residuals_depend_on_no_global_generator(tiny: Any) -> None:
    one, other = [], []
    for seed, into in ((1, one), (2, other)):
        torch.manual_seed(seed)
        state = torch.get_rng_state()
        for name in BEGINS_ELSEWHERE:
            into += [p.detach() for p in attached(tiny, EVERY_ADAPTER[name]).parameters()]
        assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


# --- what is trained


CASES = [
    # GRU's two passes hold those of the others.
    pytest.param(name, rule, marks=[] if rule == "gru" and name != "lora" else [pytest.mark.long])
    for name in EVERY_ADAPTER
    for rule in RECTIFIERS
]


@pytest.mark.parametrize(("name", "rectifier"), CASES)
def test_every_tensor_is_trained_and_nothing_else(tiny: Any, name: str, rectifier: str) -> None:
    """With and without gradient checkpointing; the two agree to the last bit."""
    loader, ended = loader_for(tiny), {}
    fresh = attached(tiny, EVERY_ADAPTER[name])
    for checkpointing in (False, True):
        engine = engine_for(tiny, name, rectifier, checkpointing, deepcopy(fresh))
        model = engine.models.trained
        tensors = {n: p for n, p in model.named_parameters() if p.requires_grad}
        assert len(tensors) == TENSORS.get(name, 2) * 2 * 7
        assert all(".lora_" in n for n in tensors)
        began = {n: p.detach().clone() for n, p in model.named_parameters()}
        model.train()
        engine.step(loader.step(0))  # where B = 0, A has no gradient before it
        gradients, _ = engine.gradients(loader.step(1))
        for group, gradient in gradients.items():
            for tensor, entry in zip(tensors, gradient, strict=True):
                assert entry is not None, (group, tensor)
                assert bool(entry.any()), (group, tensor)
        engine.step(loader.step(1))
        for n, p in model.named_parameters():
            assert torch.equal(p, began[n]) is (n not in tensors), n
        ended[checkpointing] = [p.detach() for p in tensors.values()]
    assert all(torch.equal(a, b) for a, b in zip(*ended.values(), strict=True))


@pytest.mark.parametrize("name", EVERY_ADAPTER)
def test_a_checkpoint_continues_bit_for_bit(tiny: Any, name: str) -> None:
    loader, whole = loader_for(tiny), engine_for(tiny, name, "gru")
    for step in range(2):
        whole.step(loader.step(step))
    state = deepcopy(whole.state(2))
    assert all(".lora_" in tensor for tensor in state["model"])
    again = engine_for(tiny, name, "gru")
    assert again.restore(state) == 2
    for engine in (whole, again):
        for step in range(2, 4):
            engine.step(loader.step(step))
    ended = trainable_state(again.models.trained)
    found = trainable_state(whole.models.trained)
    assert all(torch.equal(tensor, ended[n]) for n, tensor in found.items())
    pairs = zip(*(e.models.trained.parameters() for e in (whole, again)), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs), "the residual, too"


# --- what is kept

FRESH = """
import json, sys
from pathlib import Path
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

torch.set_num_threads(1)
base, kept, rows = sys.argv[1:]
rows = [torch.tensor([ids]) for ids in json.loads(Path(rows).read_text())]
found = {}
for folder in sorted(Path(kept).iterdir()):
    if (folder / "config.json").exists():
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    else:
        model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
        model = PeftModel.from_pretrained(model, folder)
    with torch.no_grad():
        found[folder.name] = [model.eval()(input_ids=row).logits[0, -1].tolist() for row in rows]
Path(sys.argv[3]).write_text(json.dumps(found))
"""
"""Nothing of the runner in it."""


def test_a_fresh_process_with_peft_finds_the_same_logits(tiny: Any, tmp_path: Path) -> None:
    """Of every kind of adapter, alone on the original base and merged."""
    base, kept, out = tmp_path / "base", tmp_path / "kept", tmp_path / "rows.json"
    save(tiny.llama(), tiny.tokenizer, base)
    ids = [list(map(int, row.ids)) for row in tiny.forget[:8]]
    here, before = {}, None
    for name, plain in EVERY_ADAPTER.items():
        for merge in (False, True):
            adapter, label = replace(plain, merge=merge), f"{name}{'-merged' * merge}"
            model = trained(tiny, adapter, name).eval()
            place = kept / label
            adapter.save(model, tiny.tokenizer, place, Base(base, "../../finetune/0"), "float32")
            with torch.no_grad():
                last = [model(input_ids=torch.tensor([i])).logits[0, -1] for i in ids]
                plain_model = tiny.llama().eval()
                before = [plain_model(input_ids=torch.tensor([i])).logits[0, -1] for i in ids]
            here[label] = torch.stack(last)
            again = attached(tiny, adapter)
            adapter.load(again, place)
            pairs = zip(again.parameters(), model.parameters(), strict=True)
            assert all(torch.equal(a, b) for a, b in pairs), label
            ours = load_frozen(place, "float32", CPU, base=None if merge else base)
            gap = logits(ours, tiny.forget, tiny.pad) - logits(model, tiny.forget, tiny.pad)
            assert float(gap.abs().max()) < 1e-5, label
    out.write_text(json.dumps(ids))
    arguments = [str(base), str(kept), str(out)]
    subprocess.run([sys.executable, "-W", "ignore", "-c", FRESH, *arguments], check=True)
    there = json.loads(out.read_text())
    assert set(there) == set(here)
    assert before is not None
    for label, found in here.items():
        assert float((found - torch.stack(before)).abs().max()) > 1e-2, label
        assert float((found - torch.tensor(there[label])).abs().max()) < 1e-5, label


def test_a_residual_adapter_is_kept_with_twice_its_rank(tiny: Any, tmp_path: Path) -> None:
    adapter = EVERY_ADAPTER["fila"]
    model = trained(tiny, adapter, "fila")
    adapter.save(model, tiny.tokenizer, tmp_path, Base(tmp_path, "a/b"), "float32")
    config = json.loads((tmp_path / "adapter_config.json").read_text())
    assert (config["r"], config["lora_alpha"]) == (8, 16)
    assert config["init_lora_weights"] is True, "peft must not touch the base when it loads it"
    tensors = load_file(tmp_path / "adapter_model.safetensors")
    assert {min(t.shape) for t in tensors.values()} == {8}
    assert model.peft_config["default"].r == 4, "left as it was"
