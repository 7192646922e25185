"""Packing: the answers of a pass in one sequence without padding, which reads once what they share.

The sequence is a tree: a token follows the one that it follows in its row, has the position that it
has there, and attends to what is before it there alone. So the numbers differ from those of rows by
themselves in rounding only. It takes a model that goes by the positions it is given, and attention
that `transformers` lets others replace.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Tensor
from transformers import AttentionInterface
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from unlearn_runner.data.encode import Encoded, pixels_of
from unlearn_runner.evaluation.probes.batching import device_of, narrowed

GROUP = 768  # tokens of answers to one question that stay together, at most
TOGETHER = 16  # segments, alike in length, whose attention is computed at once on a processor
MASK, CACHED_MASK = 2**26, 2**20  # numbers of a mask, on an accelerator and on a processor
NAME, BASE = "unlearn_runner_packed", "sdpa"
ATTENTION = {"full_attention", "sliding_attention", "chunked_attention"}


class Segment(NamedTuple):
    """What a row adds to the tree: tokens one behind another."""

    start: int
    size: int
    path: Sequence[int]
    """Places of what the last of them attends to, its own the last; before it each sees one less
    of them."""


@dataclass
class Tree:
    """Rows of a pass in one sequence; what begins alike is there once."""

    tokens: list[int] = field(default_factory=list)
    positions: list[int] = field(default_factory=list)
    """Of each token, within the rows that it is of."""
    segments: list[Segment] = field(default_factory=list)
    places: list[int] = field(default_factory=list)
    """Where the labels of the rows are predicted, one after another; the same where rows begin
    alike."""
    labels: list[int] = field(default_factory=list)
    images: list[Any] = field(default_factory=list)
    _known: dict[tuple[int, int], int] = field(default_factory=dict)

    def add(self, rows: Sequence[Encoded]) -> list[Sequence[int]]:
        """Adds rows with the same prompt; returns each one's path, the places of its tokens."""
        place = -1
        if (image := rows[0].image) is not None:
            self.images.append(image)
            place -= len(self.images)  # placeholders of another picture are other tokens
        return [self._add(row, place) for row in rows]

    def _add(self, row: Encoded, place: int) -> list[int]:
        # Nothing follows the last token, which need not be read.
        read, path = row.ids[:-1], []
        for token in read:
            if (behind := self._known.get((place, token))) is None:
                break
            path.append(place := behind)
        first, rest = len(self.tokens), read[len(path) :]
        if rest:
            new = range(first, first + len(rest))
            self._known.update(zip(zip((place, *new), rest, strict=False), new, strict=True))
            self.tokens += rest
            self.positions += range(len(path), len(read))
            path += new
            self.segments.append(Segment(first, len(rest), path))
        self.places += path[row.prompt_length - 1 :]
        self.labels += row.ids[row.prompt_length :]
        return path


def groups(encoded: Sequence[Encoded]) -> list[list[Encoded]]:
    """Returns neighbours with the same prompt together, in order."""
    found: list[list[Encoded]] = []
    before, filled = None, 0
    for row in encoded:
        prompt = row.ids[: row.prompt_length], row.image
        filled += row.num_labels
        if prompt != before or filled > GROUP:
            found.append([])
            before, filled = prompt, len(row.ids)
        found[-1].append(row)
    return found


def can_pack(model: Any, encoded: Sequence[Encoded]) -> bool:
    """Returns whether a model mixes tokens by torch's attention alone, and no window cuts a row.

    Models without `_supports_attention_backend` make masks of their own, of the order of tokens;
    others have layers (convolutions, recurrences) that go by that order.
    """
    config = model.config.get_text_config()
    windows = (getattr(config, name, None) for name in ("sliding_window", "attention_chunk_size"))
    window = min(filter(None, windows), default=None)
    return (
        getattr(model, "_supports_attention_backend", False)
        and config._attn_implementation == BASE
        and set(getattr(config, "layer_types", None) or ()) <= ATTENTION
        and _reads_trees(model)  # in front of rows: ranks that compute in step try it together
        and (window is None or all(len(row.ids) <= window for row in encoded))
    )


_READS: WeakKeyDictionary[Any, bool] = WeakKeyDictionary()


@torch.no_grad()
def _reads_trees(model: Any) -> bool:
    """Returns whether a model says of a small tree what it says of its rows; tried once.

    Not where attention looks ahead, or a model adds to its masks.
    """
    if model not in _READS:
        tree, device = Tree(), device_of(model)
        rows = [Encoded((0, *middle, 3, 0), 1) for middle in ((1, 2), (2, 1))]
        tree.add(rows)
        found = packed_logits(model, tree, np.array(tree.places), device)
        ids = torch.tensor([row.ids[:-1] for row in rows], device=device)
        expected = model(input_ids=ids, use_cache=False).logits.flatten(0, 1)
        rounding = max(0.02, torch.finfo(expected.dtype).eps ** 0.5)
        gap = (found - expected).double().norm()
        _READS[model] = bool(gap <= rounding * (expected - expected.mean()).double().norm())
    return _READS[model]


def packed_logits(
    model: Any, tree: Tree, places: Any, device: torch.device, cache: Any = None
) -> Tensor:
    """Returns logits [places, vocabulary] at some places of a tree; what it read, in a cache.

    Logits are float32, or float64 when the model is.
    """
    chosen = torch.from_numpy(places).to(device)
    layout = _Layout.of(tree, _mask_type(model, device), device)
    with _attending(model, layout), narrowed(model, lambda hidden: hidden[0, chosen]):
        logits = model(
            input_ids=torch.tensor([tree.tokens], device=device),
            position_ids=torch.tensor([tree.positions], device=device),
            past_key_values=cache,
            use_cache=cache is not None,
            **pixels_of(tree.images, device),
        ).logits
    return logits if logits.dtype == torch.float64 else logits.float()


def _mask_type(model: Any, device: torch.device) -> torch.dtype:
    """Returns what a mask is given as: on a processor, what torch would make of it every layer."""
    plain = device.type == "cpu" and not torch.is_autocast_enabled("cpu")
    return model.dtype if plain else torch.bool


class _Part(NamedTuple):
    """Segments as a batch, [segments, ...]: which tokens ask, and which they attend to."""

    asking: Tensor
    """[segments, longest]: places; what fills up repeats a segment's last token."""
    seen: Tensor
    """[segments, longest path]."""
    mask: Tensor | None
    """[segments, 1, longest, longest path]; None for a row by itself."""

    @staticmethod
    def of(segments: Sequence[Segment], mask_type: torch.dtype, device: torch.device) -> _Part:
        """Returns segments as a batch."""
        sizes = np.array([segment.size for segment in segments])[:, None]
        lengths = np.array([len(segment.path) for segment in segments])[:, None]
        asking = np.minimum(np.arange(sizes.max()), sizes - 1)
        seen = np.zeros((len(segments), lengths.max()), dtype=np.int64)
        for line, segment in zip(seen, segments, strict=True):
            line[: len(segment.path)] = segment.path
        mask = None
        if len(segments) > 1 or sizes[0] < lengths[0]:
            last = (lengths - sizes + asking)[:, None, :, None]
            mask = torch.from_numpy(np.arange(lengths.max()) <= last)
            if mask_type is not torch.bool:
                mask = torch.zeros(mask.shape, dtype=mask_type).masked_fill_(~mask, -torch.inf)
            mask = mask.to(device)
        asking += np.array([segment.start for segment in segments])[:, None]
        places = torch.from_numpy(asking).to(device)
        return _Part(places, torch.from_numpy(seen).to(device), mask)


class _Layout(NamedTuple):
    """All segments of a tree."""

    parts: list[_Part]
    back: Tensor
    """[tokens]: where each one is among all that ask."""

    @staticmethod
    def of(tree: Tree, mask_type: torch.dtype, device: torch.device) -> _Layout:
        """Returns a tree's segments, those of about a length together."""
        on_cpu = device.type == "cpu"
        most, numbers = (TOGETHER, CACHED_MASK) if on_cpu else (len(tree.segments), MASK)
        together: list[list[Segment]] = []
        longest = 0
        for one in sorted(tree.segments, key=lambda one: (one.size, len(one.path))):
            count, longest = len(together[-1]) + 1 if together else 1, max(longest, len(one.path))
            if not together or count > most or count * one.size * longest > numbers:
                together.append([])
                longest = len(one.path)
            together[-1].append(one)
        parts = [_Part.of(segments, mask_type, device) for segments in together]
        order = torch.cat([part.asking.flatten() for part in parts])
        back = torch.empty(len(tree.tokens), dtype=torch.long, device=device)
        back[order] = torch.arange(len(order), device=device)  # any of several is right
        return _Layout(parts, back)


_LAYOUT: ContextVar[_Layout] = ContextVar("layout of the tree that a pass reads")


def _attend(
    module: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: Any = None, **how: Any
) -> tuple[Tensor, None]:
    """Attention of a tree's tokens, segment by segment; see `AttentionInterface`.

    Args:
        module: The layer.
        query: [1, heads, tokens, dimension].
        key: [1, groups of heads, tokens, dimension].
        value: As `key`.
        attention_mask: None; what a model makes itself goes by the order of tokens. There are no
            numbers then, nor where a layer looks ahead.
        how: Of torch's attention.
    """
    layout = _LAYOUT.get()
    if attention_mask is not None or not getattr(module, "is_causal", True):
        return value.new_full(
            (*query.shape[:3:2], query.shape[1], value.shape[-1]), torch.nan
        ), None

    def chosen(states: Tensor, which: Tensor) -> Tensor:
        found = states[0].transpose(0, 1).index_select(0, which.flatten())
        return found.unflatten(0, which.shape).transpose(1, 2)

    found = []
    for part in layout.parts:
        states = (chosen(query, part.asking), chosen(key, part.seen), chosen(value, part.seen))
        out, _ = ALL_ATTENTION_FUNCTIONS[BASE](module, *states, part.mask, **how)
        found.append(out.flatten(0, 1))
    return torch.cat(found).index_select(0, layout.back)[None], None


AttentionInterface.register(NAME, _attend)


@contextmanager
def _attending(model: Any, layout: _Layout) -> Iterator[None]:
    """Lets the text part of a model attend as a layout says."""
    kind = type(model.config.get_text_config())
    modules = (getattr(module, "config", None) for module in model.modules())
    configs: list[Any] = [config for config in modules if type(config) is kind]
    before = _LAYOUT.set(layout)
    for config in configs:
        config._attn_implementation = NAME
    try:
        yield
    finally:
        for config in configs:
            config._attn_implementation = BASE
        _LAYOUT.reset(before)
