"""Prefix probe: the model's greedy continuation of every prefix of a row, up to the row's length.

What is extracted by whoever knows the first i tokens, for every i. Where the likeliest token behind
a prefix is the row's own next one, the continuation is that token and then the continuation of the
prefix that is one longer. So only prefixes at whose end the model errs are generated from: of a
memorised sequence few, of any sequence no more than a plain loop.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch

from unlearn_runner.data.encode import Encoded
from unlearn_runner.distributed.ranks import ALONE, Ranks
from unlearn_runner.evaluation.probes.batching import map_batches
from unlearn_runner.evaluation.probes.generations import continued
from unlearn_runner.evaluation.probes.journal import Journal


@torch.no_grad()
def continuations(
    model: Any,
    tokenizer: Any,
    rows: Sequence[Encoded],
    hits: Sequence[Sequence[bool]] | None,
    batch_size: int,
    title: str,
    ranks: Ranks = ALONE,
    journal: Journal[Any] | None = None,
) -> list[list[list[int]]]:
    """Returns per row the token ids behind each prefix, the shortest first; on rank 0.

    A continuation ends with the end of sequence, or where the row ends. Prefixes begin at the
    row's first scored token.

    Args:
        model: A causal LM in eval mode.
        tokenizer: Its tokenizer.
        rows: Rows in tokens.
        hits: Per row, whether each scored token is the model's most likely one; none: not known,
            and every prefix is generated from.
        batch_size: Prefixes that are continued together.
        title: Name of the progress bar.
        ranks: Sharers of the work; every rank must call this.
        journal: As for `map_batches`.
    """
    end = tokenizer.eos_token_id
    places = [
        (i, length)
        for i, row in enumerate(rows)
        for length in range(row.prompt_length, len(row.ids))
        if hits is None or not hits[i][length - row.prompt_length]
    ]

    lengths = [length for _, length in places]
    limits = [len(rows[i].ids) - length for i, length in places]

    def generated(batch: Sequence[int]) -> Iterator[list[int]]:
        prompts = [rows[i].ids[:length] for i, length in (places[place] for place in batch)]
        allowed = [limits[place] for place in batch]
        found = continued(model, tokenizer, prompts, [()] * len(prompts), allowed, [end], ranks)
        for tokens, limit in zip(found, allowed, strict=True):
            yield [*tokens, end][:limit]

    if not places:
        return [_chained(row, {}, end) for row in rows] if ranks.main else []
    found = map_batches(model, lengths, batch_size, title, ranks, generated, journal)
    if not ranks.main:
        return []
    by_row: list[dict[int, list[int]]] = [{} for _ in rows]
    for (row, length), tokens in zip(places, found, strict=True):
        by_row[row][length] = tokens
    return [_chained(row, known, end) for row, known in zip(rows, by_row, strict=True)]


def _chained(row: Encoded, known: dict[int, list[int]], end: int) -> list[list[int]]:
    """Returns all continuations, those that are not known from the next longer prefix's."""
    found: list[list[int]] = []
    behind: list[int] = []
    for length in range(len(row.ids) - 1, row.prompt_length - 1, -1):
        token = row.ids[length]
        behind = known.get(length, [token] if token == end else [token, *behind])
        found.append(behind)
    return found[::-1]
