"""Generation probe: the model's greedy answer to every question; and decoding for all who sample.

Sampled continuations are transformers' own; greedy ones are `decoding`'s, where rows that have
ended leave.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from transformers import GenerationConfig

from unlearn_runner.data.encode import Encoded, pixels_of, positions
from unlearn_runner.data.picture import Shown
from unlearn_runner.distributed.ranks import ALONE, Ranks
from unlearn_runner.evaluation.probes.batching import device_of, is_sharded, map_batches
from unlearn_runner.evaluation.probes.decoding import can_decode, decode
from unlearn_runner.evaluation.probes.journal import Journal
from unlearn_runner.evaluation.schema import Generation

AT_ONCE = 4
"""Sequences that are generated together, by those of a forward pass: each reads one token only,
and those that have ended leave."""


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
    said: Sequence[Sequence[int]] | None = None,
    journal: Journal[str] | None = None,
) -> list[str]:
    """Returns the greedy answer to every row's prompt, up to a token of `ends`; see `map_batches`.

    The prompt's tokens are the ones in front of the first scored token: exactly what the model was
    trained on.

    Args:
        model: A causal LM in eval mode.
        tokenizer: Its tokenizer.
        encoded: Rows in tokens.
        setting: How much is generated.
        ends: Tokens that end an answer.
        batch_size: Rows of a forward pass; `AT_ONCE` times as many are generated together.
        title: Name of the progress bar.
        ranks: Sharers of the work; every rank must call this.
        said: Per row, the first tokens of its answer that are known. None: none is.
        journal: As for `map_batches`.
    """
    prompts = [row.ids[: row.prompt_length] for row in encoded]
    limits, known = [], []
    for i, row in enumerate(encoded):
        limit = setting.max_new_tokens
        if setting.max_length is not None:  # counted with the row's own prompt, not padding
            limit = min(limit, max(0, setting.max_length - row.prompt_length))
        first = [] if said is None else said[i]
        end = next((at for at, token in enumerate(first) if token in ends), None)
        known.append(first[:end])
        limits.append(limit if end is None else min(limit, end))

    def texts(batch: Sequence[int]) -> Iterator[str]:
        chosen = [prompts[i] for i in batch]
        begun, allowed = [known[i] for i in batch], [limits[i] for i in batch]
        images = [encoded[i].image for i in batch]
        found = continued(model, tokenizer, chosen, begun, allowed, ends, ranks, images)
        for prompt, tokens in zip(chosen, found, strict=True):
            yield answer_text(tokenizer, setting, prompt, tokens)

    lengths = [len(one) + len(more) for one, more in zip(prompts, known, strict=True)]
    size = batch_size * AT_ONCE
    return map_batches(model, lengths, size, title, ranks, texts, journal)


def continued(
    model: Any,
    tokenizer: Any,
    prompts: Sequence[Sequence[int]],
    known: Sequence[Sequence[int]],
    limits: Sequence[int],
    ends: Sequence[int],
    ranks: Ranks,
    images: Sequence[Shown | None] = (),
) -> list[list[int]]:
    """Returns the greedy tokens behind each prompt; see `decoding.decode`.

    By transformers where the model remembers more than keys and values.
    """
    if can_decode(model):
        return decode(model, tokenizer.pad_token_id, prompts, known, limits, ends, ranks, images)
    greedy = {"do_sample": False, "num_beams": 1, "images": images}
    found = continue_prompts(model, tokenizer, prompts, ends, max(limits), **greedy)
    return [tokens[:limit] for tokens, limit in zip(found, limits, strict=True)]


def answer_text(
    tokenizer: Any, setting: Generation, prompt: Sequence[int], tokens: Sequence[int]
) -> str:
    """Returns the text of an answer's tokens, cut as the setting says."""
    if setting.max_length is not None:  # counted with the row's own prompt, not padding
        tokens = tokens[: max(0, setting.max_length - len(prompt))]
    text = tokenizer.decode(tokens, skip_special_tokens=True)
    ends_at = [at for cut in setting.cut_at if (at := text.find(cut)) >= 0]
    return text[: min(ends_at, default=None)].strip()


@torch.no_grad()
def continue_prompts(
    model: Any,
    tokenizer: Any,
    prompts: Sequence[Sequence[int]],
    ends: Sequence[int],
    max_new_tokens: int,
    images: Sequence[Shown | None] = (),
    **sampling: Any,
) -> list[list[int]]:
    """Returns the tokens behind each prompt, cut at the first of `ends`.

    Args:
        model: A causal LM in eval mode; its own generation configuration is not used.
        tokenizer: Its tokenizer.
        prompts: Token ids.
        ends: Tokens that end an answer.
        max_new_tokens: Fewer where the model has fewer positions left, but at least one.
        images: What the prompts show; none where no prompt shows anything.
        sampling: Of `model.generate`: `do_sample`, `temperature`, ...
    """
    longest = max(map(len, prompts))
    pad = tokenizer.pad_token_id
    ids = torch.tensor([[pad] * (longest - len(p)) + list(p) for p in prompts])
    mask = torch.tensor([[0] * (longest - len(p)) + [1] * len(p) for p in prompts])
    if (bound := positions(model)) is not None:
        max_new_tokens = max(1, min(max_new_tokens, bound - longest))
    with _default_generation(model):
        out = model.generate(
            ids.to(device_of(model)),
            attention_mask=mask.to(device_of(model)),
            max_new_tokens=max_new_tokens,
            pad_token_id=pad,
            eos_token_id=list(ends),
            use_cache=True,
            synced_gpus=is_sharded(model),
            **pixels_of(images, device_of(model)),
            **sampling,
        )
    return [
        row[: next((i for i, token in enumerate(row) if token in ends), len(row))]
        for row in out[:, longest:].tolist()
    ]


@contextmanager
def _default_generation(model: Any) -> Iterator[None]:
    """Puts transformers' defaults in the place of the model's generation_config.json.

    Qwen's, for one, penalises repetition even when nothing is sampled.
    """
    # An adapter's wrapper hands its own to what it wraps: both, or one would keep the empty one.
    models = [model, *([model.get_base_model()] if hasattr(model, "get_base_model") else [])]
    own = models[-1].generation_config
    for one in models:
        one.generation_config = GenerationConfig()
    try:
        yield
    finally:
        for one in models:
            one.generation_config = own
