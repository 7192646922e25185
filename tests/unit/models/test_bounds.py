"""Sizes that no machine has are refused by the fields themselves, and devices are no files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from unlearn_runner.config.build import build
from unlearn_runner.config.model import Model
from unlearn_runner.data.refusals import read
from unlearn_runner.errors import ConfigError, DataError
from unlearn_runner.models.adapters.base import Adapter

SCRATCH = "unlearn_runner.config.model.Scratch"
TOO_LARGE: dict[str, tuple[dict[str, Any], str]] = {
    "layers": ({"shape": {"num_layers": 99_999_999}}, "model.shape.num_layers=99999999"),
    "heads": ({"shape": {"num_heads": 99_999_999}}, "model.shape.num_heads"),
    "width": ({"shape": {"hidden_size": 10**9}}, "model.shape.hidden_size"),
    "inner width": ({"shape": {"intermediate_size": 10**9}}, "model.shape.intermediate_size"),
    "context": ({"shape": {"context": 10**9}}, "model.shape.context"),
    "vocabulary": ({"vocab_size": 999_999_999_999}, "model.vocab_size=999999999999"),
}


@pytest.mark.parametrize("name", TOO_LARGE)
def test_a_size_beyond_reason_is_refused(name: str) -> None:
    settings, says = TOO_LARGE[name]
    with pytest.raises(ConfigError) as caught:
        build({"_target_": SCRATCH, **settings}, Model, "model")
    assert says in str(caught.value)
    assert "<=" in str(caught.value)


def test_so_is_a_rank() -> None:
    target = "unlearn_runner.models.adapters.lora.LoRA"
    with pytest.raises(ConfigError, match="<= 65536"):
        build({"_target_": target, "rank": 10**9}, Adapter, "adapter")


def test_refusals_are_not_read_from_a_device() -> None:
    with pytest.raises(DataError, match="no regular file"):
        read(Path("/dev/zero"), "benchmark.refusals_file")
