"""Log-probability probe: one teacher-forced pass over every answer, a few statistics per token.

Everything likelihood-based (probability, truth ratio, memorisation, extraction strength, the
membership attacks) is a function of what is kept here, so the model is run once and the vocabulary
axis is never stored.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import log_softmax

from unlearn_runner.data.encode import Batch, Encoded, collate
from unlearn_runner.distributed.ranks import ALONE, Ranks
from unlearn_runner.evaluation.probes.batching import device_of, map_batches
from unlearn_runner.models.forward import scored_logits

LOGITS_AT_ONCE = 2048  # scored positions per softmax: bounds memory at large vocabularies


@dataclass(frozen=True)
class TokenStats:
    """Statistics of one encoded answer; every array is [scored tokens]."""

    logprob: np.ndarray[Any, Any]
    """Log-probability of the label, in nats."""
    hit: np.ndarray[Any, Any]
    """Whether the label is the most likely token."""
    mean: np.ndarray[Any, Any]
    """Mean of the log-probability under the model's own distribution."""
    variance: np.ndarray[Any, Any]
    """Its variance."""
    entropy: np.ndarray[Any, Any]
    """Entropy of the distribution, in nats (the mean with its sign turned)."""
    rank: np.ndarray[Any, Any]
    """Number of tokens likelier than the label; 0 is the most likely."""


def moments(logits: Tensor, labels: Tensor) -> tuple[Tensor, ...]:
    """Returns the fields of `TokenStats` for scored positions.

    Args:
        logits: [positions, vocabulary], float32 or float64.
        labels: [positions].
    """
    logp = log_softmax(logits, dim=-1)
    label = logp.gather(1, labels[:, None])
    p = logp.exp()
    # A probability that underflows to 0 contributes 0, not 0 * -inf.
    weighted = torch.where(p > 0, p * logp, 0.0)
    mean = weighted.sum(-1)
    variance = torch.where(p > 0, p * (logp - mean[:, None]) ** 2, 0.0).sum(-1)
    rank = (logp > label).sum(-1)
    return label[:, 0], rank == 0, mean, variance, -mean, rank


@torch.no_grad()
def probe(
    model: Any,
    encoded: Sequence[Encoded],
    pad: int,
    batch_size: int,
    title: str,
    ranks: Ranks = ALONE,
) -> list[TokenStats]:
    """Returns the statistics of every encoded answer, in their order; see `map_batches`."""

    def compute(rows: Sequence[int]) -> Iterator[TokenStats]:
        return _probe_batch(model, collate([encoded[i] for i in rows], pad, device_of(model)))

    return map_batches(model, [len(e.ids) for e in encoded], batch_size, title, ranks, compute)


def _probe_batch(model: Any, batch: Batch) -> Iterator[TokenStats]:
    logits = scored_logits(model, batch)
    pieces = [
        moments(logits[i : i + LOGITS_AT_ONCE], batch.labels[i : i + LOGITS_AT_ONCE])
        for i in range(0, len(logits), LOGITS_AT_ONCE)
    ]
    columns = [torch.cat(column).cpu().numpy() for column in zip(*pieces, strict=True)]
    ends = np.cumsum(np.bincount(batch.row.cpu().numpy(), minlength=batch.num_rows))
    for end, start in zip(ends, [0, *ends[:-1]], strict=True):
        yield TokenStats(*(column[start:end] for column in columns))
