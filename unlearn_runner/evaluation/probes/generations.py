"""The generation probe: what the model answers when it is asked, greedily."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from transformers import GenerationConfig

from unlearn_runner.data.encode import Encoded, positions
from unlearn_runner.distributed.ranks import ALONE, Ranks
from unlearn_runner.evaluation.benchmarks.base import Generation
from unlearn_runner.evaluation.probes.deal import deal, device_of, in_step
from unlearn_runner.utils.progress import progress


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

    The prompt's tokens are the ones in front of the first scored token, so a model is asked with
    exactly what it was trained on. Rows are padded on the left and sorted by length.
    """
    order = sorted(range(len(encoded)), key=lambda i: encoded[i].prompt_length)
    found: dict[int, str] = {}
    dealt = deal(model, order, batch_size, ranks)
    with progress(title, sum(len(chosen) for chosen, counts in dealt if counts)) as tick:
        for chosen, counts in dealt:
            prompts = [encoded[i].ids[: encoded[i].prompt_length] for i in chosen]
            texts = _continue(model, tokenizer, prompts, setting, ends)
            if counts:
                found |= zip(chosen, texts, strict=True)
                tick(len(chosen))
    everything = {i: text for part in ranks.gather(found) for i, text in part.items()}
    return [everything[i] for i in range(len(encoded))] if ranks.main else []


def _continue(
    model: Any,
    tokenizer: Any,
    prompts: list[tuple[int, ...]],
    setting: Generation,
    ends: Sequence[int],
) -> list[str]:
    longest = max(map(len, prompts))
    pad = tokenizer.pad_token_id
    ids = torch.tensor([[pad] * (longest - len(p)) + list(p) for p in prompts])
    mask = torch.tensor([[0] * (longest - len(p)) + [1] * len(p) for p in prompts])
    bound = positions(model)
    room = setting.max_new_tokens if bound is None else bound - longest
    with _own_habits_aside(model):
        out = model.generate(
            ids.to(device_of(model)),
            attention_mask=mask.to(device_of(model)),
            max_new_tokens=max(1, min(setting.max_new_tokens, room)),
            do_sample=False,
            num_beams=1,
            pad_token_id=pad,
            eos_token_id=list(ends),
            use_cache=True,
            synced_gpus=in_step(model),
        )
    texts = []
    for prompt, row in zip(prompts, out[:, longest:].tolist(), strict=True):
        if setting.max_length is not None:  # counted with the row's own prompt, not with padding
            row = row[: max(0, setting.max_length - len(prompt))]
        row = row[: next((i for i, token in enumerate(row) if token in ends), len(row))]
        texts.append(tokenizer.decode(row, skip_special_tokens=True).strip())
    return texts


@contextmanager
def _own_habits_aside(model: Any) -> Iterator[None]:
    """Puts the model's generation_config.json aside while it answers.

    Qwen's, for one, penalises repetition even when nothing is sampled.
    """
    # An adapter's wrapper hands its own to what it wraps: both, or one would keep the empty one.
    held = [model, *([model.get_base_model()] if hasattr(model, "get_base_model") else [])]
    theirs = held[-1].generation_config
    for one in held:
        one.generation_config = GenerationConfig()
    try:
        yield
    finally:
        for one in held:
            one.generation_config = theirs
