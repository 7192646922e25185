"""Selects the modules that an adapter goes to, by name, whatever the family."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, Literal

from unlearn_runner.errors import DataError, listed
from unlearn_runner.models.towers import TOWER

Targets = Literal["all_linear", "attention", "mlp"]
Layers = tuple[int, int]

LAYER = re.compile(r"(?:^|\.)(\d+)\.")
ATTENTION = re.compile(r"attn|attention", re.IGNORECASE)


def linear_modules(model: Any) -> dict[str, Any]:
    """Returns the linear maps of a model by name, in the model's order.

    The projection to the vocabulary is none of them: its weights are often the embeddings, too.
    """
    from torch import nn
    from transformers.pytorch_utils import Conv1D

    head = model.get_output_embeddings()
    return {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, (nn.Linear, Conv1D)) and module is not head
    }


def chosen(
    names: Iterable[str], targets: Targets, regex: str | None, layers: Layers | None
) -> list[str]:
    """Returns the modules that an adapter goes to, in the order given.

    Args:
        names: Linear modules, as in `model.layers.3.self_attn.q_proj`.
        targets: All, those of attention blocks, or the other ones within decoder layers; of the
            text part alone.
        regex: Of those only the ones in whose name it is found.
        layers: Of those only the ones in layers of these numbers, both ends included.

    Raises:
        DataError: If no module is left.
    """
    names = list(names)
    found = [name for name in names if _of(name, targets)]
    if regex is not None:
        found = [name for name in found if re.search(regex, name)]
    if layers is not None:
        first, last = layers
        found = [name for name in found if (n := _layer(name)) is not None and first <= n <= last]
    if not found:
        raise _nothing(names, targets, regex, layers)
    return found


def _of(name: str, targets: Targets) -> bool:
    if TOWER.search(name):
        return False
    if targets == "all_linear":
        return True
    within = ATTENTION.search(name.rpartition(".")[0]) is not None
    return within if targets == "attention" else not within and _layer(name) is not None


def _layer(name: str) -> int | None:
    """Returns the number of the decoder layer that a module lies in: the first in its name."""
    match = LAYER.search(name)
    return int(match[1]) if match else None


def _nothing(
    names: list[str], targets: Targets, regex: str | None, layers: Layers | None
) -> DataError:
    settings = f"adapter.targets={targets}"
    settings += "" if regex is None else f" adapter.regex={regex}"
    settings += "" if layers is None else f" adapter.layers=[{layers[0]},{layers[1]}]"
    numbers = sorted({n for name in names if (n := _layer(name)) is not None})
    kinds = dict.fromkeys(LAYER.sub(lambda m: m[0].replace(m[1], "N"), name, 1) for name in names)
    there = listed(kinds, 16) or "none"
    if numbers:
        there += f" (N from {numbers[0]} to {numbers[-1]})"
    return DataError(
        f"{settings} matches no linear module of the model; it has {there}",
        "adapter.targets=all_linear adapter.regex=null adapter.layers=null",
    )
