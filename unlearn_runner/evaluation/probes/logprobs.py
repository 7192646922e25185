"""Log-probability probe: one teacher-forced pass over every answer, a few statistics per token.

Everything likelihood-based (probability, truth ratio, memorisation, extraction strength, the
membership attacks) is a function of what is kept here, so the model is run once and the vocabulary
axis is never stored.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import log_softmax

from unlearn_runner.data.encode import Encoded, collate
from unlearn_runner.distributed.ranks import ALONE, Ranks
from unlearn_runner.evaluation.probes.batching import (
    TOKENS,
    device_of,
    likeliest,
    map_batches,
    without_gradients,
)
from unlearn_runner.evaluation.probes.journal import Journal
from unlearn_runner.evaluation.probes.packing import Tree, can_pack, groups, packed_logits
from unlearn_runner.models.forward import scored_logits

LOGITS_AT_ONCE = 2**24  # numbers per softmax on an accelerator
CACHED_LOGITS = 2**18  # and on a processor: two such tables are what a core's cache holds
CACHED = 40  # tokens of a pass per row of a batch: 2,560, which a processor's cache holds
LEAST = -1e15  # in place of -inf: its square is a number, and 0 times either is 0


@dataclass(frozen=True)
class TokenStats:
    """Statistics of one encoded answer, [scored tokens]; empty where `logprob` alone was wanted."""

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
    best: np.ndarray[Any, Any]
    """The most likely token; not kept."""

    def said(self) -> list[int]:
        """Returns the greedy answer up to its first token that is another one, with that."""
        other = np.flatnonzero(~self.sole)
        return self.best[: other[0] + 1 if len(other) else None].tolist()


def moments(logp: Tensor, labels: Tensor) -> tuple[Tensor, ...]:
    """Returns the fields of `TokenStats` for scored positions.

    Args:
        logp: [positions, vocabulary], log-probabilities; they are overwritten.
        labels: [positions].
    """
    label, best = logp.gather(1, labels[:, None]), likeliest(logp)
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
    return label[:, 0], hit, mean, variance, -mean, rank, sole, best


@without_gradients
def probe(
    model: Any,
    encoded: Sequence[Encoded],
    pad: int,
    batch_size: int,
    title: str,
    ranks: Ranks = ALONE,
    journal: Journal[Any] | None = None,
    whole: Sequence[bool] | None = None,
) -> list[TokenStats]:
    """Returns the statistics of every encoded answer, in their order; see `map_batches`.

    Args:
        model: A causal LM in eval mode.
        encoded: Rows in tokens; neighbours with the same prompt are read together.
        pad: Padding token.
        batch_size: Rows of a pass.
        title: Name of the progress bar.
        ranks: Sharers of the work; every rank must call this.
        journal: As for `map_batches`.
        whole: Which answers have all statistics; the others have log-probabilities. None: all.
    """
    packs, device = can_pack(model, encoded), device_of(model)
    items = groups(encoded) if packs else [[row] for row in encoded]
    ends = np.cumsum([len(item) for item in items])
    whole = [True] * len(encoded) if whole is None else whole

    def compute(batch: Sequence[int]) -> Iterator[list[TokenStats]]:
        chosen = [items[i] for i in batch]
        rows = [row for item in chosen for row in item]
        marks = [mark for i in batch for mark in whole[ends[i] - len(items[i]) : ends[i]]]
        if packs:
            scored = _packed(model, chosen)
        else:
            shaped = collate(rows, pad, device)
            logits = scored_logits(model, shaped)
            scored = _Scored(logits, np.arange(len(logits)), shaped.labels)
        stats = _statistics(scored, [row.num_labels for row in rows], marks)
        for item in chosen:
            yield [next(stats) for _ in item]

    lengths = [item[0].prompt_length + sum(row.num_labels for row in item) for item in items]
    given = (lengths, batch_size, title, ranks, compute, journal)
    max_tokens = CACHED if device.type == "cpu" else TOKENS
    counts = [len(item) for item in items]
    found = map_batches(model, *given, rows=counts, tokens=max_tokens)
    return [one for stats in found for one in stats]


class _Scored(NamedTuple):
    """What a pass scored."""

    logits: Tensor
    """[contexts, vocabulary]."""
    picks: np.ndarray[Any, Any]
    """[scored tokens]: the context of each label."""
    labels: Tensor
    """[scored tokens]."""


def _packed(model: Any, items: Sequence[Sequence[Encoded]]) -> _Scored:
    """Reads rows in one sequence; those of an item have the same prompt."""
    tree, device = Tree(), device_of(model)
    for rows in items:
        tree.add(rows)
    places, picks = np.unique(tree.places, return_inverse=True)
    logits = packed_logits(model, tree, places, device)
    return _Scored(logits, picks, torch.tensor(tree.labels, device=device))


def _statistics(
    scored: _Scored, lengths: Sequence[int], whole: Sequence[bool]
) -> Iterator[TokenStats]:
    """Yields the statistics of rows that have so many labels each, of some all of them."""
    marks, order = np.repeat(whole, lengths), scored.picks.argsort(kind="stable")
    fully = order[marks[order]]
    logprob, further = _normalised(scored, order, fully)
    logprob[order] = logprob.copy()
    columns = [np.empty_like(column) for column in further]
    numbers = (np.cumsum(marks) - 1)[fully]
    for column, values in zip(columns, further, strict=True):
        column[numbers] = values
    start = kept = 0
    for length, mark in zip(lengths, whole, strict=True):
        mine = slice(kept, kept + length * mark)
        yield TokenStats(logprob[start : start + length], *(column[mine] for column in columns))
        start, kept = start + length, mine.stop


def _normalised(scored: _Scored, order: Any, fully: Any) -> tuple[Any, list[Any]]:
    """Returns log-probabilities of labels, and of some the further fields of `TokenStats`.

    Contexts are normalised once, a few at a time.

    Args:
        scored: What a pass scored.
        order: The labels, by context.
        fully: Those of which all is wanted, by context.
    """
    logits, device = scored.logits, scored.logits.device
    size = _at_once(logits)
    cuts = range(0, len(logits) + size, size)

    def pieces(which: Any) -> Iterator[tuple[Tensor, Tensor]]:
        picks, labels = scored.picks[which], scored.labels[torch.from_numpy(which).to(device)]
        ends = np.searchsorted(picks, cuts)
        at = torch.from_numpy(picks % size).to(device)
        for first, end in pairwise(ends):
            yield at[first:end], labels[first:end]

    logprobs, further = [], []
    for start, (at, labels), (mine, own) in zip(cuts, pieces(order), pieces(fully), strict=False):
        logp = log_softmax(logits[start : start + size], dim=-1)
        logprobs.append(logp[at, labels])
        if len(mine) or not further:
            further.append(moments(logp[mine], own)[1:])
    columns = [torch.cat(column).cpu().numpy() for column in zip(*further, strict=True)]
    return torch.cat(logprobs).cpu().numpy(), columns


def _at_once(logits: Tensor) -> int:
    """Returns how many contexts are normalised together."""
    numbers = CACHED_LOGITS if logits.device.type == "cpu" else LOGITS_AT_ONCE
    return max(1, numbers // logits.shape[1])


def journalled() -> dict[str, Any]:
    """Returns how a journal keeps the statistics of rows: few arrays, not one per row."""

    def pack(results: Sequence[Sequence[TokenStats]]) -> Any:
        rows = [list(vars(one).values()) for stats in results for one in stats]
        columns = [
            (list(map(len, column)), torch.from_numpy(np.concatenate(column)))
            for column in zip(*rows, strict=True)
        ]
        return [len(stats) for stats in results], columns

    def unpack(packed: Any) -> Iterator[list[TokenStats]]:
        counts, columns = packed
        rows = zip(*(values.split(sizes) for sizes, values in columns), strict=True)
        for count in counts:
            yield [TokenStats(*(part.numpy() for part in next(rows))) for _ in range(count)]

    return {"pack": pack, "unpack": unpack}
