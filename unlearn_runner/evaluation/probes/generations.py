"""Generation probe: the model's greedy answer to every question."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch

from unlearn_runner.data.encode import Encoded
from unlearn_runner.distributed.ranks import ALONE, Ranks
from unlearn_runner.evaluation.benchmarks.base import Generation
from unlearn_runner.evaluation.probes.batching import map_batches
from unlearn_runner.evaluation.probes.decoding import continue_prompts


@torch.no_grad()
def generate(
    model: Any,
    tokenizer: Any,
    encoded: Sequence[Encoded],
    setting: Generation,
    ends: Sequence[int],
    batch_size: int,
    title: str,
    ranks: Ranks = ALONE,
) -> list[str]:
    """Returns the greedy continuation of every row's prompt, cut at the first token of `ends`.

    On rank 0 only; every rank must call it, and does its share of the batches.

    The prompt's tokens are the ones in front of the first scored token: exactly what the model was
    trained on.
    """
    prompts = [row.ids[: row.prompt_length] for row in encoded]

    def texts(batch: Sequence[int]) -> Iterator[str]:
        chosen = [prompts[i] for i in batch]
        found = continue_prompts(
            model,
            tokenizer,
            chosen,
            ends,
            setting.max_new_tokens,
            do_sample=False,
            num_beams=1,
        )
        for prompt, tokens in zip(chosen, found, strict=True):
            if setting.max_length is not None:  # counted with the row's own prompt, not padding
                tokens = tokens[: max(0, setting.max_length - len(prompt))]
            yield tokenizer.decode(tokens, skip_special_tokens=True).strip()

    return map_batches(model, [len(p) for p in prompts], batch_size, title, ranks, texts)
