"""Choice probe: the log-probability of every choice as a continuation of its question's prompt.

Texts are tokenised and cut as lm-evaluation-harness does it. Choices that differ in their last
token alone, such as letters, are read off one pass over what they share.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any, cast

import torch
from torch.nn.functional import log_softmax

from unlearn_runner.data.encode import Encoded, collate, positions
from unlearn_runner.data.rows import ChoiceQA, Rows
from unlearn_runner.distributed.ranks import ALONE, Ranks
from unlearn_runner.evaluation.files import Choices
from unlearn_runner.evaluation.probes.batching import device_of, map_batches
from unlearn_runner.evaluation.probes.journal import Journal
from unlearn_runner.models.forward import scored_logits

Shared = tuple[tuple[int, ...], int]
"""Tokens before the last one, and how many of them are prompt."""


def encode_choice(tokenizer: Any, context: str, continuation: str, bound: int | None) -> Encoded:
    """Encodes a prompt and a continuation, the continuation's tokens to be scored.

    They are the tokens of both texts behind as many as the prompt alone has; white space at the end
    of the prompt goes to the continuation. The beginning is cut where the model lacks positions.
    """
    kept = context.rstrip()
    whole = tokenizer(context + continuation)["input_ids"]
    start = len(tokenizer(kept)["input_ids"])
    cut = max(0, len(whole) - bound) if bound is not None else 0
    return Encoded(tuple(whole[cut:]), max(1, start - cut))


@torch.no_grad()
def score_choices(
    model: Any,
    tokenizer: Any,
    rows: Rows,
    batch_size: int,
    title: str,
    ranks: Ranks = ALONE,
    journal: Journal[Any] | None = None,
) -> list[Choices]:
    """Returns the scored choices of every row, on rank 0; see `map_batches`."""
    bound = positions(model)
    questions = [cast(ChoiceQA, row) for row in rows]
    members: defaultdict[Shared, list[tuple[int, int, Encoded]]] = defaultdict(list)
    for i, row in enumerate(questions):
        for j, text in enumerate(row.choices):
            one = encode_choice(tokenizer, row.context, text, bound)
            members[one.ids[:-1], one.prompt_length].append((i, j, one))
    groups = list(members.values())

    def compute(batch: Sequence[int]) -> Iterator[list[float]]:
        firsts = [groups[i][0][2] for i in batch]
        collated = collate(firsts, tokenizer.pad_token_id, device_of(model))
        logits = scored_logits(model, collated)
        counts = [one.num_labels for one in firsts]
        for i, scored in zip(batch, torch.split(logits, counts), strict=True):
            logp = log_softmax(scored, dim=-1)
            labels = [one.ids[one.prompt_length :] for _, _, one in groups[i]]
            wanted = torch.tensor(labels, device=logp.device)  # [choices, tokens]
            yield logp[torch.arange(len(logp)), wanted].sum(-1).tolist()

    lengths = [len(group[0][2].ids) for group in groups]
    found = map_batches(model, lengths, batch_size, title, ranks, compute, journal)
    by_row = [[0.0] * len(row.choices) for row in questions]
    for group, values in zip(groups if found else (), found, strict=True):
        for (i, j, _), value in zip(group, values, strict=True):
            by_row[i][j] = value
    return [
        Choices(tuple(values), tuple(len(text.strip()) for text in row.choices), row.correct)
        for values, row in zip(by_row, questions, strict=True)
    ]
