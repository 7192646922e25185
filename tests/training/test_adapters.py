"""LoRA under every method and rectifier: what is trained, what the start model is, what is kept."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from contextlib import nullcontext
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from unlearn_runner.data.encode import Encoded, collate, with_start
from unlearn_runner.distributed.layout import Layout, trainable_state
from unlearn_runner.errors import ConfigError, DataError
from unlearn_runner.evaluation.probes.logprobs import probe
from unlearn_runner.methods.base import Method, Retain, needs_start_model
from unlearn_runner.methods.ga import GA
from unlearn_runner.methods.npo import NPO
from unlearn_runner.models.adapters.base import Base
from unlearn_runner.models.adapters.lora import AdapterOff, LoRA
from unlearn_runner.models.adapters.none import NoAdapter
from unlearn_runner.models.adapters.targets import chosen, linear_modules
from unlearn_runner.models.forward import Models, scored_logits
from unlearn_runner.models.load import for_training, load_frozen, load_model, save
from unlearn_runner.rectifiers.base import Rectifier
from unlearn_runner.rectifiers.gru import GRU, MEAN
from unlearn_runner.rectifiers.none import NoRectifier
from unlearn_runner.training.batches import StepLoader
from unlearn_runner.training.engine import Engine
from unlearn_runner.training.recipe import Recipe

pytestmark = pytest.mark.usefixtures("one_thread")

CPU = torch.device("cpu")
PLAIN = LoRA(rank=4, alpha=8.0, dropout=0.0)
METHODS: dict[str, Method] = {
    "ga": GA(),
    "gd": GA(retain=Retain("nll", 0.2)),
    "kl": GA(retain=Retain("kl", 5.0)),
    "npo": NPO(beta=0.5, retain=Retain("nll", 0.2)),
    "npo+kl": NPO(beta=0.5, retain=Retain("kl", 1.0)),
}
RECTIFIERS: dict[str, Rectifier] = {
    "none": NoRectifier(),
    "gru": GRU(gamma=0.8),
    "gru-kl": GRU(gamma=0.8, risk="kl"),
}


def engine_for(
    tiny: Any,
    method: Method,
    rectifier: Rectifier,
    adapter: LoRA = PLAIN,
    checkpointing: bool = False,
    **recipe: Any,
) -> Engine:
    model = for_training(adapter.attach(tiny.llama(), 0), checkpointing)
    return Engine(
        models=Models(model, adapter.start(model), nullcontext),
        terms=method.terms(),
        recipe=Recipe(**{"lr": 1e-2, "batch_size": 8, "steps": 20, "micro_batch": 4, **recipe}),
        num_rows=len(tiny.forget),
        pad=tiny.pad,
        rectifier=rectifier,
    )


def loader_for(tiny: Any) -> StepLoader:
    found = probe(tiny.llama().eval(), tiny.forget, tiny.pad, 20, "start logprobs")
    return StepLoader(
        "forget", with_start(tiny.forget, [r.logprob for r in found]), 8, 0, tiny.retain
    )


def adapter_tensors(model: Any) -> dict[str, Any]:
    return {name: p for name, p in model.named_parameters() if ".lora_" in name}


def logits(model: Any, rows: list[Encoded], pad: int) -> torch.Tensor:
    with torch.no_grad():
        return scored_logits(model.eval(), collate(rows, pad, CPU))


def trained(tiny: Any, adapter: LoRA = PLAIN) -> Any:
    """A model whose adapter has moved."""
    engine, loader = engine_for(tiny, METHODS["gd"], NoRectifier(), adapter), loader_for(tiny)
    for step in range(4):
        assert engine.step(loader.step(step)) is not None
    return engine.models.trained


# --- what is trained


@pytest.mark.parametrize("rectifier", RECTIFIERS)
@pytest.mark.parametrize("method", METHODS)
def test_every_adapter_tensor_is_trained_and_nothing_else(
    tiny: Any, method: str, rectifier: str
) -> None:
    """With and without gradient checkpointing; the two agree to the last bit."""
    loader, stepped = loader_for(tiny), {}
    before = dict(tiny.llama().named_parameters())
    for checkpointing in (False, True):
        engine = engine_for(
            tiny, METHODS[method], RECTIFIERS[rectifier], checkpointing=checkpointing
        )
        model = engine.models.trained
        tensors = adapter_tensors(model)
        assert len(tensors) == 2 * len(linear_modules(tiny.llama())) == 2 * 2 * 7
        assert {id(p) for p in engine.space.parameters} == {id(p) for p in tensors.values()}
        began = {name: p.detach().clone() for name, p in tensors.items()}
        for step in range(2):  # with B = 0 the first step has no gradient for A
            model.train()
            gradients, losses = engine.gradients(loader.step(step))
            assert all(math.isfinite(loss) for loss in losses.values())
            facts = engine.step(loader.step(step))
            assert facts is not None
        for group, gradient in gradients.items():
            for (name, _), entry in zip(tensors.items(), gradient, strict=True):
                assert entry is not None, (group, name)
                assert float(entry.abs().max()) > 0, (group, name)
        assert all(not torch.equal(p, began[name]) for name, p in tensors.items())
        for name, p in model.named_parameters():
            if name not in tensors:
                assert torch.equal(p, before[name.replace(".base_layer", "")]), name
                assert p.grad is None
        stepped[checkpointing] = {name: p.detach().clone() for name, p in tensors.items()}
    assert all(torch.equal(p, stepped[True][name]) for name, p in stepped[False].items())


def test_checkpointing_keeps_fewer_activations(tiny: Any) -> None:
    """What the backward pass needs is counted as it is kept."""
    kept = {}
    for on in (False, True):
        engine = engine_for(tiny, GA(), NoRectifier(), checkpointing=on)
        seen: dict[int, int] = {}

        def keep(tensor: torch.Tensor, seen: dict[int, int] = seen) -> torch.Tensor:
            seen[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        engine.models.trained.train()
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            loss = engine.models.logits(collate(tiny.forget, tiny.pad, CPU)).sum()
        kept[on] = sum(seen.values())
        loss.backward()
    assert kept[True] < 0.5 * kept[False]


def test_a_bf16_base_stays_bf16_under_float32_adapters(tiny: Any, tmp_path: Path) -> None:
    save(tiny.llama(), tiny.tokenizer, tmp_path)
    adapter = replace(PLAIN, base_dtype="bf16")
    model = adapter.attach(load_model(tmp_path, "bf16", CPU, storage=adapter.storage), 0)
    drawn = {n: p.detach().clone() for n, p in adapter_tensors(model).items()}
    dtypes = {p.requires_grad: p.dtype for p in model.parameters()}
    assert dtypes == {True: torch.float32, False: torch.bfloat16}
    models = Models(model, None, lambda: torch.autocast("cpu", dtype=torch.bfloat16))
    recipe = Recipe(lr=1e-5, batch_size=8, steps=4, precision="bf16")
    engine = Engine(models, GA().terms(), recipe, 20, tiny.pad, GRU())
    for step in range(2):
        assert engine.step(loader_for(tiny).step(step)) is not None
    for name, p in adapter_tensors(model).items():
        assert p.dtype == torch.float32
        # A step of 1e-5 is below the spacing of bf16 numbers of this size.
        assert not torch.equal(p, drawn[name]), name
    whole = adapter_tensors(PLAIN.attach(tiny.llama(), 0))
    assert all(torch.equal(p, whole[name]) for name, p in drawn.items())


def test_float64_trains_in_float64(tiny: Any) -> None:
    model = PLAIN.attach(tiny.llama(torch.float64), 0)
    assert {p.dtype for p in model.parameters()} == {torch.float64}


# --- how it begins


def test_what_is_drawn_depends_on_seed_and_module_alone(tiny: Any) -> None:
    torch.manual_seed(1)
    state = torch.get_rng_state()
    one = adapter_tensors(PLAIN.attach(tiny.llama(), 3))
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(2)
    few = adapter_tensors(replace(PLAIN, targets="mlp").attach(tiny.llama(), 3))
    other = adapter_tensors(PLAIN.attach(tiny.llama(), 4))
    assert 0 < len(few) < len(one)
    for name, p in few.items():
        assert torch.equal(p, one[name])
    for name, p in one.items():
        if "lora_A" not in name:
            assert not p.any()
            continue
        assert not torch.equal(p, other[name])
        bound = p.shape[1] ** -0.5  # the uniform distribution that peft draws from
        assert 0.8 * bound < float(p.detach().abs().max()) <= bound
    assert len({p.flatten()[0].item() for n, p in one.items() if "lora_A" in n}) == len(one) // 2


def test_a_fresh_adapter_changes_nothing(tiny: Any) -> None:
    fresh = logits(PLAIN.attach(tiny.llama(), 0), tiny.forget, tiny.pad)
    assert torch.equal(fresh, logits(tiny.llama(), tiny.forget, tiny.pad))


def test_the_addition_is_what_the_formula_says(tiny: Any) -> None:
    """Against float64 arithmetic written out here: W + (alpha / rank) B A in every linear map."""
    adapter = LoRA(rank=3, alpha=7.0, dropout=0.0)
    model = adapter.attach(tiny.llama(torch.float64), 0)
    plain = tiny.llama(torch.float64)
    with torch.no_grad():
        for name, module in linear_modules(plain).items():
            a, b = (model.get_submodule(f"{name}.lora_{x}.default").weight for x in "AB")
            b.normal_(generator=torch.Generator().manual_seed(len(name)))
            module.weight += 7.0 / 3 * (b @ a)
    found, expected = (logits(m, tiny.forget, tiny.pad) for m in (model, plain))
    assert not torch.allclose(expected, logits(tiny.llama(torch.float64), tiny.forget, tiny.pad))
    assert float((found - expected).abs().max()) < 1e-10


# --- the start model is the base with the adapter off


def test_the_start_model_equals_a_separate_copy_and_holds_none(tiny: Any) -> None:
    model = trained(tiny)
    start = PLAIN.start(model)
    batch = collate(tiny.retain, tiny.pad, CPU)
    for mode in (True, False):
        model.train(mode)
        models = Models(model, start, nullcontext)
        assert torch.equal(models.start_logits(batch), logits(tiny.llama(), tiny.retain, tiny.pad))
        assert model.training is mode
        assert not torch.equal(models.start_logits(batch), models.logits(batch))
    found, copy = (
        probe(m, tiny.forget, tiny.pad, 20, "start logprobs") for m in (start, tiny.llama().eval())
    )
    for a, b in zip(found, copy, strict=True):
        assert (a.logprob == b.logprob).all()
    assert all(p.requires_grad for p in adapter_tensors(model).values())
    assert isinstance(start, AdapterOff)
    assert start.config is model.config


@pytest.mark.parametrize("checkpointing", [False, True])
def test_kl_with_the_adapter_off_is_kl_to_a_separate_copy(tiny: Any, checkpointing: bool) -> None:
    """Five steps, dropout of the adapter included: the look at the start model disturbs nothing."""
    adapter = replace(PLAIN, dropout=0.3)
    ended = {}
    for separate in (False, True):
        engine = engine_for(
            tiny, METHODS["kl"], GRU(risk="kl"), adapter, checkpointing, schedule="constant"
        )
        assert needs_start_model(engine.terms)
        if separate:
            engine.models = replace(engine.models, start=tiny.llama().eval())
        loader = loader_for(tiny)
        for step in range(5):
            torch.manual_seed(step)
            engine.models.trained.train()
            facts = engine.step(loader.step(step))
            assert facts is not None
        ended[separate] = trainable_state(engine.models.trained)
    assert all(torch.equal(tensor, ended[True][name]) for name, tensor in ended[False].items())


def test_no_adapter_has_no_start_model_inside(tiny: Any) -> None:
    assert NoAdapter().start(tiny.llama()) is None


# --- checkpoints


def test_a_checkpoint_holds_the_adapter_alone_and_continues_bit_for_bit(tiny: Any) -> None:
    loader = loader_for(tiny)
    whole = engine_for(tiny, METHODS["npo"], GRU(gamma=0.3))
    for step in range(3):
        whole.step(loader.step(step))
    state = deepcopy(whole.state(3))
    assert set(state["model"]) == set(adapter_tensors(whole.models.trained))
    assert MEAN in state["rectifier_state"]
    for step in range(3, 6):
        whole.step(loader.step(step))
    again = engine_for(tiny, METHODS["npo"], GRU(gamma=0.3))
    assert again.restore(state) == 3
    for step in range(3, 6):
        again.step(loader.step(step))
    ended = trainable_state(again.models.trained)
    assert all(torch.equal(t, ended[n]) for n, t in trainable_state(whole.models.trained).items())
    with pytest.raises(DataError, match="other tensors are trained"):
        engine_for(tiny, METHODS["npo"], NoRectifier(), replace(PLAIN, targets="mlp")).restore(
            state
        )


def test_a_whole_model_s_state_is_all_of_it(tiny: Any) -> None:
    model, other = tiny.llama(), tiny.llama()
    assert trainable_state(model).keys() == model.state_dict().keys()
    with torch.no_grad():
        model.model.norm.weight += 1
    Layout().restore(other, trainable_state(model))
    assert torch.equal(other.model.norm.weight, model.model.norm.weight)


# --- what is kept

FRESH = """
import json, sys
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

torch.set_num_threads(1)
base, adapter, out = sys.argv[1:]
model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
model = PeftModel.from_pretrained(model, adapter).eval()
with torch.no_grad():
    rows = (torch.tensor([ids]) for ids in json.load(open(out)))
    logits = [model(input_ids=row).logits[0, -1].tolist() for row in rows]
json.dump(logits, open(out, "w"))
"""
"""Nothing of the runner in it."""


def test_a_fresh_process_with_peft_finds_the_same_logits(tiny: Any, tmp_path: Path) -> None:
    start, kept, out = tmp_path / "start", tmp_path / "kept", tmp_path / "out.json"
    save(tiny.llama(), tiny.tokenizer, start)
    model = trained(tiny).eval()
    PLAIN.save(model, tiny.tokenizer, kept, Base(start, "../../finetune/0"), "float32")
    ids = [list(map(int, row.ids)) for row in tiny.forget]
    out.write_text(json.dumps(ids))
    arguments = [str(start), str(kept), str(out)]
    subprocess.run([sys.executable, "-W", "ignore", "-c", FRESH, *arguments], check=True)
    with torch.no_grad():
        here = torch.stack([model(input_ids=torch.tensor([i])).logits[0, -1] for i in ids])
        plain = tiny.llama().eval()
        before = torch.stack([plain(input_ids=torch.tensor([i])).logits[0, -1] for i in ids])
    there = torch.tensor(json.loads(out.read_text()))
    assert float((here - before).abs().max()) > 1e-2
    assert float((here - there).abs().max()) < 1e-5
    ours = load_frozen(kept, "float32", CPU, base=start)
    assert torch.equal(logits(ours, tiny.forget, tiny.pad), logits(model, tiny.forget, tiny.pad))


def test_the_kept_folder_names_no_place_and_is_the_same_each_time(
    tiny: Any, tmp_path: Path
) -> None:
    model = trained(tiny)
    for name in ("one", "two"):
        PLAIN.save(model, tiny.tokenizer, tmp_path / name, Base(tmp_path, "a/b"), "float32")
    files = {path.name: path.read_bytes() for path in (tmp_path / "one").iterdir()}
    assert files == {path.name: path.read_bytes() for path in (tmp_path / "two").iterdir()}
    assert str(tmp_path).encode() not in b"".join(files.values())
    config = json.loads(files["adapter_config.json"])
    assert config["target_modules"] == sorted(config["target_modules"])
    assert (config["base_model_name_or_path"], config["inference_mode"]) == ("a/b", True)
    assert (config["r"], config["lora_alpha"], config["task_type"]) == (4, 8, "CAUSAL_LM")
    assert "model.safetensors" not in files
    tensors = load_file(tmp_path / "one" / "adapter_model.safetensors")
    assert len(tensors) == len(adapter_tensors(model))
    assert {t.dtype for t in tensors.values()} == {torch.float32}


@pytest.mark.parametrize("base_dtype", ["float32", "bf16"])
def test_a_merged_model_is_an_ordinary_one_with_the_same_logits(
    tiny: Any, tmp_path: Path, base_dtype: Any
) -> None:
    start, kept = tmp_path / "start", tmp_path / "kept"
    save(tiny.llama(), tiny.tokenizer, start)
    adapter = replace(PLAIN, merge=True, base_dtype=base_dtype)
    model = trained(tiny, adapter)
    if base_dtype == "bf16":  # what was trained beside rounded weights is added to whole ones
        model.to(torch.bfloat16)
        for p in adapter_tensors(model).values():
            p.data = p.data.float()
    adapter.save(model, tiny.tokenizer, kept, Base(start, "x"), "float32")
    assert (adapter.whole, PLAIN.whole) == (True, False)
    alone = load_frozen(kept, "float32", CPU)
    assert set(alone.state_dict()) == set(tiny.llama().state_dict())
    beside = load_frozen(kept / "adapter", "float32", CPU, base=start)
    expected = logits(beside, tiny.forget, tiny.pad)
    found = logits(alone, tiny.forget, tiny.pad)
    assert float((found - expected).abs().max()) < 1e-5
    assert float((found - logits(tiny.llama(), tiny.forget, tiny.pad)).abs().max()) > 1e-2
    assert all(p.requires_grad for p in adapter_tensors(model).values()), "left as it was"
    adapter.save(model, tiny.tokenizer, tmp_path / "half", Base(start, "x"), "bf16")
    assert load_file(tmp_path / "half" / "model.safetensors").popitem()[1].dtype == torch.bfloat16


# --- where it goes

NEOX = [f"gpt_neox.layers.{n}.{m}" for n in range(3) for m in ("attention.dense", "mlp.dense_h")]
OPT = [
    *(f"model.decoder.layers.{n}.{m}" for n in range(2) for m in ("self_attn.q_proj", "fc1")),
    "model.decoder.project_out",
]


@pytest.mark.parametrize(
    ("names", "how", "found"),
    [
        (NEOX, ("all_linear", None, None), NEOX),
        (NEOX, ("attention", None, None), NEOX[::2]),
        (NEOX, ("mlp", None, None), NEOX[1::2]),
        (NEOX, ("all_linear", None, (1, 1)), NEOX[2:4]),
        (NEOX, ("mlp", None, (1, 7)), [NEOX[3], NEOX[5]]),
        (NEOX, ("all_linear", r"layers\.0\..*dense$", None), NEOX[:1]),
        (OPT, ("attention", None, None), [OPT[0], OPT[2]]),
        (OPT, ("mlp", None, None), [OPT[1], OPT[3]]),
        (OPT, ("all_linear", None, None), OPT),
        (OPT, ("all_linear", None, (0, 1)), OPT[:4]),
    ],
)
def test_which_modules_are_chosen(names: list[str], how: Any, found: list[str]) -> None:
    assert chosen(names, *how) == found


def test_a_choice_of_nothing_says_what_there_is() -> None:
    with pytest.raises(DataError) as caught:
        chosen(NEOX, "mlp", "q_proj", (0, 1))
    said = caught.value.problem
    assert "adapter.targets=mlp adapter.regex=q_proj adapter.layers=[0,1] matches no" in said
    assert "gpt_neox.layers.N.attention.dense, gpt_neox.layers.N.mlp.dense_h" in said
    assert "N from 0 to 2" in said


def test_neither_embeddings_nor_the_vocabulary_projection_are_linear_modules(tiny: Any) -> None:
    found = linear_modules(tiny.llama())
    assert {type(module) for module in found.values()} == {nn.Linear}
    assert not any("head" in name or "embed" in name for name in found)


def test_transposed_linear_maps_are_adapted_too(tmp_path: Path, tiny: Any) -> None:
    """GPT-2 stores its linear maps the other way round, and has dropout of its own."""
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    plain = GPT2LMHeadModel(
        GPT2Config(vocab_size=400, n_embd=32, n_layer=2, n_head=2, n_positions=64)
    )
    save(plain, tiny.tokenizer, tmp_path / "start")
    adapter = replace(PLAIN, merge=True)
    model = adapter.attach(load_model(tmp_path / "start", "float32", CPU), 0)
    assert len(adapter_tensors(model)) == 2 * 2 * 4
    models = Models(model, adapter.start(model), nullcontext)
    engine = Engine(
        models, METHODS["kl"].terms(), Recipe(lr=1e-2, batch_size=8, steps=4), 20, tiny.pad
    )
    for step in range(2):
        model.train()
        assert engine.step(loader_for(tiny).step(step)) is not None
    model.train()
    start = models.start_logits(collate(tiny.retain, tiny.pad, CPU))
    assert torch.equal(start, logits(plain, tiny.retain, tiny.pad)), "dropout is off, too"
    adapter.save(model, tiny.tokenizer, tmp_path / "kept", Base(tmp_path / "start", "x"), "float32")
    found = logits(load_frozen(tmp_path / "kept", "float32", CPU), tiny.forget, tiny.pad)
    assert float((found - logits(model, tiny.forget, tiny.pad)).abs().max()) < 1e-5


# --- what comes later


@dataclass(frozen=True)
class Variant(LoRA):
    """A further adapter, as somebody would add it."""

    option: str = "use_dora"

    def options(self) -> dict[str, Any]:
        return {self.option: True}


@pytest.mark.parametrize("option", ["use_dora", "use_rslora"])
def test_a_variant_of_lora_is_one_option_more(tiny: Any, tmp_path: Path, option: str) -> None:
    save(tiny.llama(), tiny.tokenizer, tmp_path / "start")
    adapter = Variant(rank=4, alpha=8.0, dropout=0.0, merge=True, option=option)
    model = trained(tiny, adapter)
    tensors = adapter_tensors(model)
    assert len(tensors) == (3 if option == "use_dora" else 2) * 14
    assert all(p.requires_grad for p in tensors.values())
    start = Models(model, adapter.start(model), nullcontext)
    batch = collate(tiny.retain, tiny.pad, CPU)
    assert torch.equal(start.start_logits(batch), logits(tiny.llama(), tiny.retain, tiny.pad))
    adapter.save(model, tiny.tokenizer, tmp_path / "kept", Base(tmp_path / "start", "x"), "float32")
    expected = logits(model, tiny.forget, tiny.pad)
    assert float((expected - logits(trained(tiny), tiny.forget, tiny.pad)).abs().max()) > 1e-3
    for folder, base in (("kept/adapter", tmp_path / "start"), ("kept", None)):
        found = logits(
            load_frozen(tmp_path / folder, "float32", CPU, base=base), tiny.forget, tiny.pad
        )
        assert float((found - expected).abs().max()) < 1e-5, folder


# --- settings that do not go together


@pytest.mark.parametrize(
    ("adapter", "recipe", "dtype", "says"),
    [
        (replace(PLAIN, base_dtype="bf16"), {"precision": "float64"}, "float32", "base_dtype=bf16"),
        (PLAIN, {}, "bf16", "save_dtype=bf16"),
    ],
)
def test_settings_that_would_be_lost_are_refused(
    adapter: LoRA, recipe: Any, dtype: str, says: str
) -> None:
    with pytest.raises(ConfigError, match=says):
        adapter.check(Recipe(**recipe).precision, dtype)
    replace(adapter, base_dtype="float32", merge=True).check(Recipe(**recipe).precision, dtype)
