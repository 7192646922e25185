"""An independent reference: one row at a time, no padding, full logits, flat vectors.

Shares no code with the engine that it is held against.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.nn.functional import log_softmax, logsigmoid


def token_logprobs(model: Any, row: Any) -> torch.Tensor:
    """Log-probability of each scored token, by a mask over shifted labels; [tokens - 1]."""
    ids = torch.tensor(row.ids)
    logp = log_softmax(model(input_ids=ids[None]).logits[0, :-1], dim=-1)
    scored = torch.arange(1, len(ids)) >= row.prompt_length
    return logp[torch.arange(len(ids) - 1), ids[1:]] * scored


def trained(model: Any) -> list[torch.nn.Parameter]:
    return [p for p in model.parameters() if p.requires_grad]


def flat_gradient(model: Any, loss: torch.Tensor) -> torch.Tensor:
    return torch.cat([g.reshape(-1) for g in torch.autograd.grad(loss, trained(model))])


def mean_nll(model: Any, rows: list[Any]) -> torch.Tensor:
    total = sum(-token_logprobs(model, row).sum() for row in rows)
    return total / sum(len(row.ids) - row.prompt_length for row in rows)


def mean_npo(model: Any, start: Any, rows: list[Any], beta: float) -> torch.Tensor:
    values = []
    for row in rows:
        with torch.no_grad():
            before = token_logprobs(start, row).sum()
        gap = token_logprobs(model, row).sum() - before
        values.append(-2 / beta * logsigmoid(-beta * gap))
    return torch.stack(values).mean()


class FlatAdamW:
    """AdamW as its paper prints it, on one vector."""

    def __init__(self, size: int) -> None:
        self.m = self.v = torch.zeros(size, dtype=torch.float64)
        self.t = 0

    def step(self, w: torch.Tensor, g: torch.Tensor, lr: float) -> torch.Tensor:
        self.t += 1
        self.m = 0.9 * self.m + 0.1 * g
        self.v = 0.999 * self.v + 0.001 * g * g
        m, v = self.m / (1 - 0.9**self.t), self.v / (1 - 0.999**self.t)
        return w - lr * 0.01 * w - lr * m / (v.sqrt() + 1e-8)
