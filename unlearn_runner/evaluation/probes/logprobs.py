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

from unlearn_runner.data.encode import Encoded, collate
from unlearn_runner.distributed.ranks import ALONE, Ranks
from unlearn_runner.evaluation.probes.batching import TOKENS, device_of, map_batches
from unlearn_runner.evaluation.probes.journal import Journal
from unlearn_runner.evaluation.probes.packing import Tree, packed_logits, trees
from unlearn_runner.models.forward import scored_logits

LOGITS_AT_ONCE = 2**24  # numbers per softmax on an accelerator
CACHED_LOGITS = 2**18  # and on a processor: two such tables are what a core's cache holds
CACHED = 32  # tokens of a pass per row of a batch: 2,048, which a processor's cache holds
LEAST = -1e15  # in place of -inf: its square is a number, and 0 times either is 0


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
    sole: np.ndarray[Any, Any]
    """Whether the label is the most likely token and no other is as likely; not kept."""


def moments(logits: Tensor, labels: Tensor) -> tuple[Tensor, ...]:
    """Returns the fields of `TokenStats` for scored positions.

    Args:
        logits: [positions, vocabulary], float32 or float64.
        labels: [positions].
    """
    logp = log_softmax(logits, dim=-1)
    label = logp.gather(1, labels[:, None])
    buffer = torch.empty_like(logp)
    # Ones and zeros as floats: a sum of truth values takes five times as long on a processor.
    rank = torch.gt(logp, label, out=buffer).sum(-1).long()
    hit = rank == 0
    sole = hit.clone()
    sole[hit] = (logp[hit] == label[hit]).sum(-1) == 1  # never where there are no numbers
    p = torch.exp(logp, out=buffer)
    # A probability that underflows to 0 contributes 0, not 0 * -inf.
    mean = (p * logp.clamp_(min=LEAST)).sum(-1)
    variance = logp.sub_(mean[:, None]).square_().mul_(p).sum(-1)
    return label[:, 0], hit, mean, variance, -mean, rank, sole


@torch.no_grad()
def probe(
    model: Any,
    encoded: Sequence[Encoded],
    pad: int,
    batch_size: int,
    title: str,
    ranks: Ranks = ALONE,
    journal: Journal[Any] | None = None,
) -> list[TokenStats]:
    """Returns the statistics of every encoded answer, in their order; see `map_batches`."""
    sequences = trees(model, encoded)

    def compute(batch: Sequence[int]) -> Iterator[list[TokenStats]]:
        chosen = [sequences[i] for i in batch]
        stats = _probe_batch(model, chosen, pad)
        for tree in chosen:
            yield [next(stats) for _ in tree.rows]

    given = ([len(tree) for tree in sequences], batch_size, title, ranks, compute, journal)
    counts, device = [len(tree.rows) for tree in sequences], device_of(model)
    max_tokens = CACHED if device.type == "cpu" else TOKENS
    found = map_batches(model, *given, rows=counts, tokens=max_tokens)
    return [one for stats in found for one in stats]


def _probe_batch(model: Any, sequences: Sequence[Tree], pad: int) -> Iterator[TokenStats]:
    rows, device = [row for tree in sequences for row in tree.rows], device_of(model)
    packed = len(rows) > len(sequences)
    if packed:
        logits, labels = packed_logits(model, sequences, pad, device)
    else:
        batch = collate(rows, pad, device)
        logits, labels = scored_logits(model, batch), batch.labels
    at_once = CACHED_LOGITS if device.type == "cpu" else LOGITS_AT_ONCE
    size = max(1, at_once // logits.shape[1])
    chunks = zip(logits.split(size), labels.split(size), strict=True)
    pieces = [moments(*chunk) for chunk in chunks]
    columns = [torch.cat(column).cpu().numpy() for column in zip(*pieces, strict=True)]
    if packed:
        counts = [0, *(len(tree.scored) for tree in sequences[:-1])]
        pairs = zip(sequences, np.cumsum(counts), strict=True)
        picks = np.concatenate([np.add(tree.picks, start) for tree, start in pairs])
        columns = [column[picks] for column in columns]
    ends = np.cumsum([row.num_labels for row in rows])
    for end, start in zip(ends, [0, *ends[:-1]], strict=True):
        yield TokenStats(*(column[start:end] for column in columns))


def packing() -> dict[str, Any]:
    """Returns how a journal keeps the statistics of packed rows: few arrays, not one per row."""

    def pack(results: Sequence[Sequence[TokenStats]]) -> Any:
        rows = [vars(one).values() for stats in results for one in stats]
        columns = [torch.from_numpy(np.concatenate(column)) for column in zip(*rows, strict=True)]
        return [[len(one.hit) for one in stats] for stats in results], columns

    def unpack(packed: Any) -> Iterator[list[TokenStats]]:
        sizes, columns = packed
        flat = [size for stats in sizes for size in stats]
        rows = zip(*(column.split(flat) for column in columns), strict=True)
        for stats in sizes:
            yield [TokenStats(*(part.numpy() for part in next(rows))) for _ in stats]

    return {"pack": pack, "unpack": unpack}
