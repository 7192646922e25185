"""Generation probe: the model's greedy answer to every question; and decoding for all who sample.

Prompts are padded on the left, continued, and cut at the end of the answer.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from transformers import GenerationConfig

from unlearn_runner.data.encode import Encoded, positions
from unlearn_runner.distributed.ranks import ALONE, Ranks
from unlearn_runner.evaluation.probes.batching import device_of, is_sharded, map_batches
from unlearn_runner.evaluation.schema import Generation


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
    """Returns the greedy answer to every row's prompt, up to a token of `ends`; see `map_batches`.

    The prompt's tokens are the ones in front of the first scored token: exactly what the model was
    trained on.
    """
    prompts = [row.ids[: row.prompt_length] for row in encoded]

    def texts(batch: Sequence[int]) -> Iterator[str]:
        chosen = [prompts[i] for i in batch]
        greedy = {"do_sample": False, "num_beams": 1}
        found = continue_prompts(model, tokenizer, chosen, ends, setting.max_new_tokens, **greedy)
        for prompt, tokens in zip(chosen, found, strict=True):
            yield answer_text(tokenizer, setting, prompt, tokens)

    return map_batches(model, [len(p) for p in prompts], batch_size, title, ranks, texts)


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
    prompts: Sequence[tuple[int, ...]],
    ends: Sequence[int],
    max_new_tokens: int,
    **sampling: Any,
) -> list[list[int]]:
    """Returns the tokens behind each prompt, cut at the first of `ends`.

    Args:
        model: A causal LM in eval mode; its own generation configuration is not used.
        tokenizer: Its tokenizer.
        prompts: Token ids.
        ends: Tokens that end an answer.
        max_new_tokens: Fewer where the model has fewer positions left, but at least one.
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
