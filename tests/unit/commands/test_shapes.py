"""Shapes of the models that `conf/model` names: their weights are those of the published models."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from unlearn_runner.commands.estimate import sizes
from unlearn_runner.commands.estimate.sizes import Sizes
from unlearn_runner.config.groups import CONF

PUBLISHED = {
    "llama32_1b": 1_235_814_400,
    "llama32_3b": 3_212_749_824,
    "llama31_8b": 8_030_261_248,
    "llama2_7b": 6_738_415_616,
    "phi": 1_418_270_720,
    "zephyr": 7_241_732_096,
    "qwen25_1_5b": 1_543_714_304,
    "gemma": 8_537_680_896,
    "gemma2_2b": 2_614_341_888,
    "gptneo_125m": 125_198_592,
    "gptneo_1.3b": 1_315_575_808,
    "gptneo_2.7b": 2_651_307_520,
    "smollm2": 134_515_008,
    "llava15_7b": 7_063_427_072,
}
"""Weights by option, as the models' pages on the hub count them."""
SHAPES = yaml.safe_load(Path(sizes.__file__).with_name("shapes.yaml").read_text("utf-8"))


def hub_id(option: str) -> str:
    text = (CONF / "model" / f"{option}.yaml").read_text("utf-8")
    content = yaml.safe_load(text)
    # One that comes in a package says what it was made of.
    return str(content["same_as"] if "same_as" in content else content["model"]["path"])


def test_every_named_model_has_a_shape_and_no_other() -> None:
    texts = {path.stem: path.read_text("utf-8") for path in (CONF / "model").glob("*.yaml")}
    named = {option for option, text in texts.items() if "  path: " in text or "same_as: " in text}
    assert named == PUBLISHED.keys()
    assert {hub_id(option) for option in named} == SHAPES.keys()


@pytest.mark.parametrize("option", PUBLISHED)
def test_the_count_is_the_published_one(option: str) -> None:
    found = Sizes.of_name(hub_id(option))
    assert found is not None
    assert found.parameters == PUBLISHED[option]


@pytest.mark.parametrize("option", PUBLISHED)
def test_transformers_counts_the_same(option: str) -> None:
    import torch
    from transformers import (
        AutoConfig,
        AutoModelForCausalLM,
        AutoModelForImageTextToText,
        LlavaConfig,
    )

    shape = dict(SHAPES[hub_id(option)])
    kind, maker = shape.pop("model_type"), AutoModelForCausalLM
    if kind == "llava":  # its own configuration's defaults are CLIP's tower of LLaVA-1.5
        shape.pop("vision_weights")
        config: object = LlavaConfig(text_config={"model_type": "llama", **shape})
        maker = AutoModelForImageTextToText
    else:
        config = AutoConfig.for_model(kind, **shape)
    with torch.device("meta"):
        model = maker.from_config(config)
    assert model.num_parameters() == PUBLISHED[option]


def test_an_estimate_asks_no_hub(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "unlearn_runner.run", "estimate=A100-80GB"]
    # A fine-tune of the hub has its base's sizes.
    command += ["model=llama32_1b", "target.path=owner/fine-tune", f"output_dir={tmp_path}"]
    nowhere = {"HF_HOME": str(tmp_path / "hub"), "HF_HUB_OFFLINE": "1", "COLUMNS": "120"}
    done = subprocess.run(command, env={**os.environ, **nowhere}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "1,235.8 M parameters" in done.stdout
    assert "seconds of a step" in done.stdout
