"""Packing: the answers to a question in one sequence, which reads once what they begin with.

The sequence is a tree: a token follows the one that it follows in its row, has the position that it
has there, and attends to what is before it there alone. So the numbers differ from those of rows by
themselves in rounding only. It takes a model that goes by the mask and the positions it is given.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from unlearn_runner.data.encode import Encoded, pixels_of
from unlearn_runner.evaluation.probes.batching import narrowed

LONGEST = 768  # tokens of a packed sequence: attention to what the mask hides is computed, too


@dataclass
class Tree:
    """Rows with the same prompt; what one token follows another is there once."""

    rows: list[Encoded] = field(default_factory=list)
    tokens: list[int] = field(default_factory=list)
    paths: list[list[int]] = field(default_factory=list)
    """Per row, the places of its tokens."""
    scored: dict[tuple[int, int], int] = field(default_factory=dict)
    """What is scored, numbered: a place, and the token behind it; once where rows begin alike."""
    picks: list[int] = field(default_factory=list)
    """Numbers of what is scored of the rows, one after another."""
    _places: dict[tuple[int, int], int] = field(default_factory=dict)

    def add(self, row: Encoded) -> None:
        """Adds a row; nothing follows its last token, which need not be read."""
        place, path = -1, []
        for token in row.ids[:-1]:
            place = self._places.setdefault((place, token), len(self.tokens))
            if place == len(self.tokens):
                self.tokens.append(token)
            path.append(place)
        self.rows.append(row)
        self.paths.append(path)
        start = row.prompt_length
        for one in zip(path[start - 1 :], row.ids[start:], strict=True):
            self.picks.append(self.scored.setdefault(one, len(self.scored)))

    def __len__(self) -> int:
        return len(self.tokens)


def trees(model: Any, encoded: Sequence[Encoded]) -> list[Tree]:
    """Returns neighbours with the same prompt together, where the model allows it, in order."""
    found: list[Tree] = []
    possible, before, filled = _goes_by_masks(model, encoded), None, 0
    for row in encoded:
        prompt = row.ids[: row.prompt_length], row.image
        filled += row.num_labels
        if not possible or prompt != before or filled > LONGEST:
            found.append(Tree())
            before, filled = prompt, len(row.ids)
        found[-1].add(row)
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


def packed_logits(
    model: Any, sequences: Sequence[Tree], pad: int, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Returns logits [scored, vocabulary] and labels of what is scored in trees, each once.

    Logits are float32, or float64 when the model is.
    """
    longest = max(map(len, sequences))
    shape = (len(sequences), longest)
    ids, places = np.full(shape, pad, dtype=np.int64), np.zeros(shape, dtype=np.int64)
    seen = np.zeros((*shape, longest), dtype=bool)
    before = np.tri(longest, dtype=bool)
    for i, tree in enumerate(sequences):
        ids[i, : len(tree)] = tree.tokens
        for path in tree.paths:
            count = len(path)
            places[i, path] = np.arange(count)
            seen[i][np.ix_(path, path)] |= before[:count, :count]
        # What fills up attends to something: its numbers are nobody's, but must be numbers.
        seen[i, len(tree) :, 0] = True
    counts = [len(tree.scored) for tree in sequences]
    row = torch.from_numpy(np.repeat(np.arange(len(sequences)), counts)).to(device)
    pairs = torch.tensor([pair for tree in sequences for pair in tree.scored], device=device)
    mask = torch.from_numpy(seen[:, None]).to(device)
    if device.type == "cpu" and not torch.is_autocast_enabled("cpu"):
        # What torch would make of it in every layer.
        mask = torch.zeros(mask.shape, dtype=model.dtype).masked_fill(~mask, -torch.inf)
    with narrowed(model, lambda hidden: hidden[row, pairs[:, 0]]):
        logits = model(
            input_ids=torch.from_numpy(ids).to(device),
            attention_mask=mask,
            position_ids=torch.from_numpy(places).to(device),
            use_cache=False,
            **pixels_of([tree.rows[0].image for tree in sequences], device),
        ).logits
    return logits if logits.dtype == torch.float64 else logits.float(), pairs[:, 1]
