"""Every adapter once, on the tiny model, with what it begins with."""

from __future__ import annotations

from typing import Any

from unlearn_runner.distributed.layout import Layout
from unlearn_runner.models.adapters.dora import DoRA
from unlearn_runner.models.adapters.fila import FILA
from unlearn_runner.models.adapters.lora import LoRA
from unlearn_runner.models.adapters.pissa import PiSSA
from unlearn_runner.models.adapters.rslora import RsLoRA
from unlearn_runner.training.fisher import Estimate, batches, only_measured

PLAIN: dict[str, Any] = {"rank": 4, "alpha": 8.0, "dropout": 0.0}
EVERY_ADAPTER: dict[str, LoRA] = {
    "lora": LoRA(**PLAIN),
    "rslora": RsLoRA(**PLAIN),
    "dora": DoRA(**PLAIN),
    "pissa": PiSSA(**PLAIN),
    "fila": FILA(**PLAIN, eps_relative=True),
}
BEGINS_ELSEWHERE = ("pissa", "fila")
"""Whose B is not zero at the start, beside a residual."""


def row_weights(
    adapter: LoRA, model: Any, forget: list[Any], retain: list[Any], pad: int, layout: Any = None
) -> dict[str, Any] | None:
    """Returns what the adapter begins with; `model` is changed."""
    if adapter.importance is None:
        return None
    only_measured(model.eval(), adapter.importance, 0)
    pairs = batches(adapter.importance, forget, retain)
    estimate = Estimate(model, adapter.importance, layout or Layout(), None, pad)
    return estimate.row_weights(pairs)[0]


def attached(tiny: Any, adapter: LoRA, dtype: Any = None) -> Any:
    """Returns the tiny model with a fresh adapter."""
    weights = row_weights(adapter, tiny.llama(dtype), tiny.forget, tiny.retain, tiny.pad)
    return adapter.attach(tiny.llama(dtype), 0, weights)
