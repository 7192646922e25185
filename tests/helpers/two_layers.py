"""The model of the G-effect oracles, W2 tanh(W1 x), as a causal language model of two tokens.

A row is an input token, which stands for a vector x, and an answer token. The losses, the engine
and the arithmetic of gradients are the product's own.
"""

from __future__ import annotations

from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from unlearn_runner.data.encode import Encoded
from unlearn_runner.methods.base import Method
from unlearn_runner.models.forward import Models
from unlearn_runner.training.batches import StepRows
from unlearn_runner.training.engine import Engine
from unlearn_runner.training.geffect import Meter
from unlearn_runner.training.recipe import Recipe

ANSWERS = 3


class TwoLayers(nn.Module):
    """Logits of the next token; weights `W1.weight` and `W2.weight`."""

    def __init__(self, w1: Any, w2: Any, inputs: Any) -> None:
        super().__init__()
        self.table = torch.tensor(inputs, dtype=torch.float64)
        self.W1, self.W2 = (_linear(weight) for weight in (w1, w2))

    def get_output_embeddings(self) -> nn.Module:
        return self.W2

    def forward(self, input_ids: Tensor, **_: Any) -> Any:
        known = (input_ids - ANSWERS).clamp(0, len(self.table) - 1)  # an answer predicts nothing
        return SimpleNamespace(logits=self.W2(torch.tanh(self.W1(self.table[known]))))


def _linear(weight: Any) -> nn.Linear:
    found = nn.Linear(len(weight[0]), len(weight), bias=False).double()
    found.weight.data = torch.tensor(weight, dtype=torch.float64)
    return found


class Oracle:
    """Model, start model and rows of an entry of `gru_geffect.json`."""

    def __init__(self, found: dict[str, Any], retain: tuple[Any, Any] | None = None) -> None:
        forget = found["X_u"], found["y_u"]
        retain = retain or (found["X_r"], found["y_r"])
        inputs = [*forget[0], *retain[0]]
        self.model = TwoLayers(found["W1"], found["W2"], inputs)
        self.start = TwoLayers(found["W1_ref"], found["W2_ref"], inputs).eval()
        self.splits = {
            "forget": [_row(i, y, self.start) for i, y in enumerate(forget[1])],
            "retain": [_row(i, y, self.start) for i, y in enumerate(retain[1], len(forget[1]))],
        }

    @property
    def rows(self) -> StepRows:
        return StepRows(self.splits)

    def meter(self, method: Method, risks: Any) -> Meter:
        engine = Engine(
            models=Models(self.model, self.start, nullcontext),
            terms=method.terms(),
            recipe=Recipe(micro_batch=1),
            num_rows=2,
            pad=0,
        )
        return Meter(engine, risks)


def _row(number: int, answer: int, start: nn.Module) -> Encoded:
    ids = (ANSWERS + number, answer)
    with torch.no_grad():
        logits = start(torch.tensor([ids[:1]])).logits[0, 0]
    logprob = float(torch.log_softmax(logits, -1)[answer])
    return Encoded(ids, 1, np.asarray([logprob]))
