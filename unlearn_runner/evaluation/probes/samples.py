"""Sampling probe: several drawn answers to every question.

Each call draws answers to one question alone, from random numbers of its own, so what is drawn is a
function of seed and row: not of the batch size, nor of the ranks.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch

from unlearn_runner.data.encode import Encoded
from unlearn_runner.distributed.ranks import ALONE, Ranks
from unlearn_runner.evaluation.probes.batching import map_batches
from unlearn_runner.evaluation.probes.generations import answer_text, continue_prompts
from unlearn_runner.evaluation.probes.journal import Journal
from unlearn_runner.evaluation.schema import Generation, Sampling

AT_ONCE = 128  # part of the draw: another number would see other random numbers


@torch.no_grad()
def sample_answers(
    model: Any,
    tokenizer: Any,
    encoded: Sequence[Encoded],
    setting: Generation,
    sampling: Sampling,
    ends: Sequence[int],
    title: str,
    ranks: Ranks = ALONE,
    journal: Journal[list[str]] | None = None,
) -> list[list[str]]:
    """Returns `sampling.number` answers to every row's prompt, on rank 0; see `map_batches`."""
    prompts = [row.ids[: row.prompt_length] for row in encoded]

    def answers(batch: Sequence[int]) -> Iterator[list[str]]:
        for row in batch:
            texts: list[str] = []
            while len(texts) < sampling.number:
                number = min(AT_ONCE, sampling.number - len(texts))
                torch.manual_seed((sampling.seed * 1_000_003 + row) * 10_007 + len(texts))
                found = continue_prompts(
                    model,
                    tokenizer,
                    [prompts[row]] * number,
                    ends,
                    setting.max_new_tokens,
                    do_sample=True,
                    temperature=sampling.temperature,
                    top_p=sampling.top_p,
                    top_k=0,
                    images=[encoded[row].image] * number,
                )
                texts += [answer_text(tokenizer, setting, prompts[row], one) for one in found]
            yield texts

    return map_batches(model, [len(p) for p in prompts], 1, title, ranks, answers, journal)
