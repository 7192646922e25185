"""An adapter's folder in the place of a model's: merged into its base, which no file may choose."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from unlearn_runner.config.model import Pretrained
from unlearn_runner.errors import DataError
from unlearn_runner.models.adapters.base import Base
from unlearn_runner.models.adapters.lora import LoRA
from unlearn_runner.models.load import (
    load_model,
    load_tokenizer,
    new_model,
    save,
    train_tokenizer,
)
from unlearn_runner.models.shape import Shape
from unlearn_runner.pipeline.stages.given import Hub, given
from unlearn_runner.pipeline.stages.local import Local
from unlearn_runner.pipeline.stages.merge import Merge

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base, an adapter that changes it, and what peft makes of the two."""
    root = tmp_path_factory.mktemp("folders")
    tokenizer = train_tokenizer(["Who? Nobody.", "Where? Nowhere."] * 9, 300)
    save(new_model(Shape(16, 16, 1, 1, context=64), tokenizer, 0), tokenizer, root / "base")
    adapter = LoRA(rank=2, dropout=0.0)
    model = adapter.attach(load_model(root / "base", "float32", CPU), seed=0)
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, generator=torch.Generator().manual_seed(1))
    adapter.save(model, tokenizer, root / "adapter", Base(root / "base", "some/base"), "float32")
    torch.save(model(torch.arange(9)[None]).logits.detach(), root / "logits.pt")
    return root


@pytest.fixture
def adapter(folders: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(folders / "adapter", tmp_path / "adapter"))


def change(folder: Path, **changes: Any) -> None:
    path = folder / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_it_is_merged_into_the_base_that_is_set(
    folders: Path, adapter: Path, tmp_path: Path
) -> None:
    base = Pretrained(path=str(folders / "base"))
    stage = given("target", "target.path", str(adapter), None, base)
    assert isinstance(stage, Merge)
    assert [read.label for read in stage.inputs] == ["base", "target adapter"]
    out = tmp_path / "out"
    context: Any = SimpleNamespace(folder=out, path=lambda read: read.outside())
    assert stage.run(context) == "completed"
    logits = load_model(out, "float32", CPU)(torch.arange(9)[None]).logits
    torch.testing.assert_close(logits, torch.load(folders / "logits.pt"), atol=1e-5, rtol=1e-5)
    assert load_tokenizer(out).get_vocab() == load_tokenizer(folders / "base").get_vocab()


def test_another_adapter_or_base_is_another_key(folders: Path, adapter: Path) -> None:
    base = Pretrained(path=str(folders / "base"))
    before = given("target", "target.path", str(adapter), None, base).key
    change(adapter, lora_alpha=1)
    assert given("target", "target.path", str(adapter), None, base).key != before


def test_a_base_of_the_hub_is_taken_by_name(
    adapter: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    refs = tmp_path / "models--some--base" / "refs"
    refs.mkdir(parents=True)
    (refs / "main").write_text("0" * 40)
    stage = given("target", "target.path", str(adapter), None)
    assert isinstance(stage, Merge)
    assert stage.base == Hub("base", "some/base", "0" * 40, "target.path")
    assert isinstance(stage.adapter, Local)


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "a base that is a path": ({"base_model_name_or_path": "/etc"}, "no id of the hub"),
    "a base beside it": ({"base_model_name_or_path": "../base"}, "no id of the hub"),
    "no base": ({"base_model_name_or_path": None}, "no id of the hub"),
    "a module to import": ({"megatron_config": {"a": 1}}, "megatron_config"),
    "weights that change the base": ({"init_lora_weights": "pissa"}, "init_lora_weights"),
    "another kind": ({"peft_type": "PREFIX_TUNING"}, "only LORA"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_its_settings_may_not_say(name: str, adapter: Path) -> None:
    changes, says = REFUSED[name]
    change(adapter, **changes)
    with pytest.raises(DataError, match=says) as caught:
        given("target", "target.path", str(adapter), None)
    assert len(str(caught.value).splitlines()) == 2


def test_pickled_adapters_are_not_read(adapter: Path) -> None:
    (adapter / "adapter_model.safetensors").rename(adapter / "adapter_model.bin")
    with pytest.raises(DataError, match="can hold code"):
        given("target", "target.path", str(adapter), None)
