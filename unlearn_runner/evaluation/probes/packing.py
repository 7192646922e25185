"""Packing: the answers to a question behind its prompt in one sequence, none of which sees another.

A prompt is read once, whatever the number of its answers. Every token has the position that it has
in a row of its own and attends to what it attends to there, so the numbers differ in rounding
alone. It takes a model that goes by the mask and the positions that it is given.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from unlearn_runner.data.encode import Encoded
from unlearn_runner.evaluation.probes.batching import narrowed

LONGEST = 768  # tokens of a packed sequence: attention to what the mask hides is computed, too


def packs(model: Any, encoded: Sequence[Encoded]) -> list[list[int]]:
    """Returns which rows go into one sequence: neighbours with the same prompt, where they can."""
    found: list[list[int]] = []
    possible, before, filled = _goes_by_masks(model, encoded), None, 0
    for i, row in enumerate(encoded):
        prompt = row.ids[: row.prompt_length]
        filled += row.num_labels
        if possible and prompt == before and filled <= LONGEST:
            found[-1].append(i)
        else:
            found.append([i])
            before, filled = prompt, len(row.ids)
    return found


def _goes_by_masks(model: Any, encoded: Sequence[Encoded]) -> bool:
    """Returns whether a model's attention is torch's, from masks alone, and no window cuts a row.

    Models without `_supports_attention_backend` make masks of their own, of the order of tokens.
    """
    config = model.config.get_text_config()
    windows = (getattr(config, name, None) for name in ("sliding_window", "attention_chunk_size"))
    window = min(filter(None, windows), default=None)
    return (
        getattr(model, "_supports_attention_backend", False)
        and config._attn_implementation == "sdpa"
        and (window is None or all(len(row.ids) <= window for row in encoded))
    )


def packed_length(rows: Sequence[Encoded]) -> int:
    """Returns the tokens of a sequence of rows with one prompt."""
    return rows[0].prompt_length + sum(row.num_labels for row in rows)


def packed_logits(
    model: Any, sequences: Sequence[Sequence[Encoded]], pad: int, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Returns logits [scored tokens, vocabulary] and labels of the rows of packed sequences.

    Logits are float32, or float64 when the model is.
    """
    longest = max(map(packed_length, sequences))
    shape = (len(sequences), longest)
    ids, places = np.full(shape, pad, dtype=np.int64), np.zeros(shape, dtype=np.int64)
    answer = np.full(shape, -1, dtype=np.int64)  # 0: prompt; -1: padding
    rows, states, labels = [], [], []
    for i, members in enumerate(sequences):
        end = prompt = members[0].prompt_length
        ids[i, :prompt], places[i, :prompt] = members[0].ids[:prompt], np.arange(prompt)
        answer[i, :prompt] = 0
        for number, row in enumerate(members, 1):
            start, end = end, end + row.num_labels
            ids[i, start:end] = row.ids[prompt:]
            places[i, start:end] = np.arange(prompt, len(row.ids))
            answer[i, start:end] = number
            rows.append(np.full(row.num_labels, i))
            states.append(np.r_[prompt - 1, start : end - 1])
            labels.append(row.ids[prompt:])
    kind = torch.from_numpy(answer).to(device)
    earlier = torch.ones(longest, longest, dtype=torch.bool, device=device).tril()
    seen = (kind[:, None, :] == 0) | (kind[:, None, :] == kind[:, :, None])
    row, at = (torch.from_numpy(np.concatenate(one)).to(device) for one in (rows, states))
    with narrowed(model, lambda hidden: hidden[row, at]):
        logits = model(
            input_ids=torch.from_numpy(ids).to(device),
            attention_mask=(seen & earlier)[:, None],
            position_ids=torch.from_numpy(places).to(device),
            use_cache=False,
        ).logits
    wanted = torch.from_numpy(np.concatenate(labels)).to(device)
    return logits if logits.dtype == torch.float64 else logits.float(), wanted
