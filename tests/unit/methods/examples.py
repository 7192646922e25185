"""The oracles' worked example: a model that looks its logits up, and what to compare with."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from unlearn_runner.data.encode import Batch, Encoded, collate
from unlearn_runner.methods.base import Method
from unlearn_runner.models.forward import Models

RTOL, ATOL = 1e-9, 1e-12  # meta.tolerance of the oracles
CPU = torch.device("cpu")
SPLITS = ("forget", "retain")


class Table:
    """A model that looks its logits up: row r of the table answers rows whose first token is r."""

    def __init__(self, logits: Tensor) -> None:
        self.logits = logits
        self.output = nn.Identity()

    def __call__(self, input_ids: Tensor, **_: Any) -> Any:
        looked_up = self.logits[input_ids[:, 0], : input_ids.shape[1]]
        return SimpleNamespace(logits=self.output(looked_up))

    def get_output_embeddings(self) -> nn.Module:
        return self.output


@dataclass(frozen=True)
class Example:
    """The oracles' rows: table rows 0 and 1 are the forget rows, 2 and 3 the retain rows.

    Where a loss reads other answers, the retain rows are those of the forget rows, and the other
    way round; where one trains on refusals, the forget rows stand for them, as in the oracles.
    """

    logits: Tensor
    start: Tensor
    rows: dict[str, list[Encoded]]

    @classmethod
    def of(cls, inputs: dict[str, Any]) -> Example:
        both = [inputs[split] for split in SPLITS]
        logits, start = (
            torch.tensor([row for part in both for row in part[key]], dtype=torch.float64)
            for key in ("logits", "ref_logits")
        )
        labels = [row for part in both for row in part["labels"]]
        every = [encoded(i, labels[i], start[i]) for i in range(4)]
        forget, retain = every[:2], every[2:]
        return cls(
            logits,
            start,
            {
                "forget": [replace(a, other=b) for a, b in zip(forget, retain, strict=True)],
                "retain": [replace(a, other=b) for a, b in zip(retain, forget, strict=True)],
                "refusal": forget,
                "mixed": every,
                "tail": [replace(row, prompt_length=row.prompt_length + 1) for row in forget],
            },
        )

    def models(self, logits: Tensor | None = None) -> Models:
        trained = self.logits if logits is None else logits
        return Models(Table(trained), Table(self.start.to(trained.dtype)), nullcontext)

    def batch(self, split: str) -> Batch:
        return collate(self.rows[split], 0, CPU)

    def judge(self, method: Method) -> tuple[float, dict[str, Tensor]]:
        logits = self.logits.clone().requires_grad_()
        total = torch.zeros((), dtype=torch.float64)
        for term in method.terms():
            batch = self.batch(term.split)
            units = len(batch.labels) if term.unit == "token" else batch.num_rows
            total = total + term.weight * term.loss(self.models(logits), batch) / units
        (gradient,) = torch.autograd.grad(total, logits)
        return total.item(), dict(zip(SPLITS, gradient.split(2), strict=True))


def encoded(row: int, labels: list[int], start: Tensor) -> Encoded:
    """A row in tokens, from labels with -100 where nothing is scored."""
    scored = [i for i, label in enumerate(labels) if label != -100]
    ids = (row, *(max(label, 0) for label in labels[1 : scored[-1] + 1]))
    table = start.numpy()
    before = [table[i - 1, labels[i]] - np.log(np.exp(table[i - 1]).sum()) for i in scored]
    return Encoded(ids, scored[0], np.array(before))


def close(found: Any, expected: Any) -> None:
    np.testing.assert_allclose(found, expected, rtol=RTOL, atol=ATOL)


def grad_logits(entry: dict[str, Any]) -> Any:
    """The oracles' gradients leave out the last position, which predicts no label: zero."""
    gradient = np.array(entry["grad_logits"])
    return np.pad(gradient, ((0, 0), (0, 5 - gradient.shape[1]), (0, 0)))
