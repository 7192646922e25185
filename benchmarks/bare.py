"""The loop to be measured against: what a careful person writes by hand for one objective.

It shares no code with the runner's engine but the batches, which it is handed ready-made: padded,
sorted by length and on the device before its clock starts. Logits are made where a label is scored,
NPO's start log-probabilities are stored numbers, AdamW is fused, nothing waits for the device.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, logsigmoid

from unlearn_runner.data.encode import Batch
from unlearn_runner.training.batches import StepLoader
from unlearn_runner.training.recipe import Recipe

BETA = 0.1


@dataclass(frozen=True)
class Step:
    """One optimizer step's batches by split, and its rows and tokens."""

    batches: dict[str, list[Batch]]
    tokens: int

    def labels(self, split: str) -> int:
        """Answer tokens of a split."""
        return sum(len(batch.labels) for batch in self.batches[split])

    def rows(self, split: str) -> int:
        """Rows of a split."""
        return sum(batch.num_rows for batch in self.batches[split])


def steps(
    loader: StepLoader,
    recipe: Recipe,
    count: int,
    pad: int,
    device: str = "cpu",
) -> list[Step]:
    """Returns the batches that the runner's feed makes, ready-made."""
    found = []
    for number in range(count):
        rows = loader.step(number)
        batches = {
            split: [
                micro.batch
                for micro in rows.micro(split, recipe.micro_batch, pad, torch.device(device))
            ]
            for split in rows.splits
        }
        found.append(Step(batches, rows.num_tokens))
    return found


def _logits(model: Any, batch: Batch) -> Tensor:
    hidden = model.model(
        input_ids=batch.input_ids, attention_mask=batch.attention_mask, use_cache=False
    ).last_hidden_state
    return model.lm_head(hidden[batch.row, batch.position])


def _backward(model: Any, step: Step, split: str, sign: float) -> None:
    scored = step.labels(split)
    for batch in step.batches[split]:
        nll = cross_entropy(_logits(model, batch), batch.labels, reduction="sum")
        (nll * (sign / scored)).backward()


def _backward_npo(model: Any, step: Step) -> None:
    rows = step.rows("forget")
    for batch in step.batches["forget"]:
        nll = cross_entropy(_logits(model, batch), batch.labels, reduction="none")
        zero = torch.zeros(batch.num_rows, device=nll.device)
        gap = zero.index_add(0, batch.row, -nll - batch.start_logprob)
        loss = -2 / BETA * logsigmoid(-BETA * gap).sum() / rows
        loss.backward()


def run(model: Any, method: str, recipe: Recipe, work: list[Step]) -> None:
    """Trains `model` in place over the steps."""
    step = stepper(model, method, recipe)
    for each in work:
        step(each)


def stepper(model: Any, method: str, recipe: Recipe) -> Callable[[Step], None]:
    """Returns what takes one step with `model` in place."""
    parameters = list(model.parameters())
    adamw = torch.optim.AdamW(
        parameters,
        lr=recipe.lr,
        betas=recipe.betas,
        eps=recipe.eps,
        weight_decay=recipe.weight_decay,
        fused=True,
    )
    model.train()

    def take(step: Step) -> None:
        if method == "fine-tune":
            _backward(model, step, "train", 1.0)
        else:
            if method == "NPO":
                _backward_npo(model, step)
            else:
                _backward(model, step, "forget", -1.0)
            _backward(model, step, "retain", 1.0)
        if recipe.clip is not None:
            torch.nn.utils.clip_grad_norm_(parameters, recipe.clip, foreach=True)
        adamw.step()
        adamw.zero_grad(set_to_none=True)

    return take
