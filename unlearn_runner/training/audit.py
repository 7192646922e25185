"""Audit: a loss measured along the way, without a gradient, on rows that stay the same."""

from __future__ import annotations

import torch

from unlearn_runner.distributed.layout import Layout
from unlearn_runner.methods.base import Term
from unlearn_runner.models.forward import Models
from unlearn_runner.training.batches import StepRows


@torch.no_grad()
def mean_loss(
    models: Models, term: Term, rows: StepRows, micro_batch: int, pad: int, layout: Layout
) -> float:
    """Returns a term's loss over rows, as a training step would count it; on all ranks alike."""
    trained, total = models.trained, torch.zeros(1, dtype=torch.float64, device=layout.device)
    count = rows.count(term.split, term.unit)
    trained.eval()
    for micro in rows.micro(term.split, micro_batch, pad, layout.device, layout.ranks):
        loss = term.loss(models, micro.batch).double() / count
        total += loss * (not micro.is_filler)
    layout.release(trained)
    trained.train()
    return layout.ranks.all_reduce_sum(total).item()
