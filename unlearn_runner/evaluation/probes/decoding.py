"""Greedy decoding in which a row that has ended costs nothing more.

`model.generate` computes every row of a batch until the last one ends. Here the cache is a table of
slots: where a row ends the last slot's row moves into its place, and the batch is one shorter.
Tokens that are known to follow a prompt are read together with it, and what prompts begin with is
read once, where the model allows it.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers.cache_utils import DynamicCache, DynamicLayer, DynamicSlidingWindowLayer

from unlearn_runner.data.encode import Encoded, pixels_of, positions
from unlearn_runner.data.picture import Shown
from unlearn_runner.distributed.ranks import ALONE, Ranks
from unlearn_runner.evaluation.probes.batching import (
    device_of,
    is_sharded,
    likeliest,
    narrowed,
    without_gradients,
)
from unlearn_runner.evaluation.probes.packing import Tree, can_pack, packed_logits

GROWTH = 32  # columns more at once: a cache that grows by one is copied at every token
READ_AT_ONCE = 2**14  # tokens of prompts in a pass
CACHED = 2048  # and on a processor: what its cache holds


class Slots(DynamicLayer):
    """A layer's keys and values, [slots, heads, columns, dimension]; the first rows are in use."""

    def __init__(self) -> None:
        super().__init__()
        self.first = self.end = self.rows = 0
        self.table: list[Tensor] = []
        self.reading: tuple[int, Tensor] | None = None
        """While a tree of prompts is read: the first one's slot, and [prompts, columns] where in
        the tree each one's tokens are."""

    def update(
        self, key_states: Tensor, value_states: Tensor, *_: Any, **__: Any
    ) -> tuple[Tensor, Tensor]:
        """Appends new columns; returns keys and values of all that are in use."""
        new = (key_states, value_states)
        if self.reading is not None:
            self._place(new, *self.reading)
            return new
        self.is_initialized, self.rows = True, len(key_states)
        end = self.end + key_states.shape[-2]
        if not self.table or end > self.table[0].shape[-2]:
            self._grow(new)
            end = self.end + key_states.shape[-2]
        for table, states in zip(self.table, new, strict=True):
            table[: self.rows, :, self.end : end] = states
        self.end = end
        self.keys, self.values = (t[: self.rows, :, self.first : end] for t in self.table)
        return self.keys, self.values

    def _place(self, new: Sequence[Tensor], first: int, places: Tensor) -> None:
        """Puts keys and values of a tree's tokens into slots, the first one's number and on.

        Args:
            new: Both, [1, heads, tokens, dimension].
            first: Slot of the first prompt.
            places: [prompts, columns]; of padding it is any, as what is hidden must be a number.
        """
        slots, (count, width) = slice(first, first + len(places)), places.shape
        for i, states in enumerate(new):
            heads, _, dimension = states.shape[1:]
            if len(self.table) == i:
                shape = (self.rows, heads, width + GROWTH, dimension)
                self.table.append(states.new_empty(shape))
            found = states[0].transpose(0, 1).index_select(0, places.flatten())
            self.table[i][slots, :, :width] = found.unflatten(0, (count, width)).transpose(1, 2)
        self.is_initialized, self.end = True, width
        self.keys, self.values = (table[:, :, :width] for table in self.table)

    def _grow(self, new: tuple[Tensor, Tensor]) -> None:
        kept, before = self.end - self.first, self.table
        self.table = []
        for i, states in enumerate(new):
            rows, heads, more, dimension = states.shape
            table = states.new_empty(rows, heads, kept + more + GROWTH, dimension)
            if before:
                table[:, :, :kept] = before[i][:rows, :, self.first : self.end]
            self.table.append(table)
        self.first, self.end = 0, kept

    def get_seq_length(self) -> int:
        """Number of columns in use."""
        return self.end - self.first

    def leave(self, holes: Sequence[int], movers: Sequence[int], unused: int) -> None:
        """Moves rows into others' slots, and leaves out columns that only padding is left in."""
        for table in self.table if movers else ():
            used = table[:, :, self.first : self.end]
            used[holes] = used[movers]
        self.first += unused


def can_decode(model: Any) -> bool:
    """Returns whether a model's cache is of keys and values alone."""
    plain = (DynamicLayer, DynamicSlidingWindowLayer)
    return all(type(layer) in plain for layer in DynamicCache(config=model.config).layers)


@without_gradients
def decode(
    model: Any,
    pad: int,
    prompts: Sequence[Sequence[int]],
    known: Sequence[Sequence[int]],
    limits: Sequence[int],
    ends: Sequence[int],
    ranks: Ranks = ALONE,
    images: Sequence[Shown | None] = (),
) -> list[list[int]]:
    """Returns the most likely tokens behind each prompt, up to one of `ends`, which is left out.

    Args:
        model: A causal LM in eval mode that `can_decode`.
        pad: Padding token.
        prompts: Token ids.
        known: Tokens, none of `ends`, that are known to be the first behind each prompt.
        limits: Most new tokens of each row, known ones among them; fewer where the model has fewer
            positions left, but then at least one.
        ends: Tokens that end a row.
        ranks: Of a sharded model, those that decode at the same time: all go on until all are done.
        images: What the prompts show; none where no prompt shows anything.
    """
    if (bound := positions(model)) is not None:
        limits = [min(n, max(1, bound - len(p))) for n, p in zip(limits, prompts, strict=True)]
    found = [list(tokens[:limit]) for tokens, limit in zip(known, limits, strict=True)]
    live = [i for i, tokens in enumerate(found) if len(tokens) < limits[i]]
    together = ranks if is_sharded(model) else ALONE
    shown = [images[i] for i in live] if any(images) else []
    table = _Table(model, pad, [[*prompts[i], *found[i]] for i in live], shown)
    while together.all_reduce_sum(torch.tensor(len(live))) > 0:
        stay = []
        for slot, token in enumerate(table.step()[: len(live)]):
            row = found[live[slot]]
            if token not in ends:
                row.append(token)
                if len(row) < limits[live[slot]]:
                    stay.append(slot)
        live = [live[slot] for slot in table.keep(stay)]
    return found


class _Table:
    """Rows of a batch, padded on the left, and the cache of what was read of them."""

    def __init__(
        self,
        model: Any,
        pad: int,
        rows: Sequence[Sequence[int]],
        images: Sequence[Shown | None] = (),
    ) -> None:
        self.model, self.pad, self.device = model, pad, device_of(model)
        self._begin(rows or [[pad]], images)

    def _begin(self, rows: Sequence[Sequence[int]], images: Sequence[Shown | None] = ()) -> None:
        shown = images or [None] * len(rows)
        pairs = zip(rows, shown, strict=True)
        self.unread = [Encoded((*row, self.pad), len(row), image=image) for row, image in pairs]
        self.width = max(map(len, rows))
        # First column of each row that is no padding.
        self.starts = torch.tensor([self.width - len(row) for row in rows], device=self.device)
        self.cache = DynamicCache(config=self.model.config)
        self.slots = [Slots() for _ in self.cache.layers]
        self.cache.layers = list[Any](self.slots)

    def step(self) -> list[int]:
        """Reads what is new of every row; returns each one's most likely next token."""
        as_tree = self.unread and can_pack(self.model, self.unread)
        best = self._read() if as_tree else self._next()
        self.unread = []
        self.ids, self.width = best[:, None], self.width + 1
        return best.tolist()

    def _next(self) -> Tensor:
        """Reads a column, or at first padded prompts."""
        if self.unread:
            padded = [[self.pad] * (self.width - len(row.ids) + 1) for row in self.unread]
            rows = zip(padded, self.unread, strict=True)
            self.ids = torch.tensor([[*pad, *row.ids[:-1]] for pad, row in rows]).to(self.device)
        columns = torch.arange(self.width, device=self.device)
        new = columns[self.width - self.ids.shape[1] :]
        with narrowed(self.model, lambda states: states[:, -1:]):
            logits = self.model(
                input_ids=self.ids,
                attention_mask=(columns >= self.starts[:, None]).long(),
                position_ids=(new - self.starts[:, None]).clamp(min=0),
                past_key_values=self.cache,
                use_cache=True,
                **pixels_of([row.image for row in self.unread], self.device),
            ).logits
        return likeliest(logits[:, -1])

    def _read(self) -> Tensor:
        """Reads prompts as trees; the cache has each one's own tokens then."""
        best, first = [], 0
        for slot in self.slots:
            slot.rows = len(self.unread)
        for piece in self._pieces():
            tree = Tree()
            paths = [path for row in piece for path in tree.add([row])]
            columns = [[0] * (self.width - len(path)) + [*path] for path in paths]
            for slot in self.slots:
                slot.reading = first, torch.tensor(columns, device=self.device)
            places, picks = np.unique(tree.places, return_inverse=True)
            logits = packed_logits(self.model, tree, places, self.device, self.cache)
            best.append(likeliest(logits)[torch.from_numpy(picks).to(self.device)])
            first += len(piece)
        for slot in self.slots:
            slot.reading = None
        return torch.cat(best)

    def _pieces(self) -> Iterator[list[Encoded]]:
        """Yields neighbours that are read together."""
        # Ranks that compute in step have as many passes as each other.
        most = CACHED if self.device.type == "cpu" else READ_AT_ONCE
        most = sys.maxsize if is_sharded(self.model) else most
        piece: list[Encoded] = []
        filled = 0
        for row in self.unread:
            filled += row.prompt_length
            if piece and filled > most:
                yield piece
                piece, filled = [], row.prompt_length
            piece.append(row)
        yield piece

    def keep(self, stay: Sequence[int]) -> list[int]:
        """Keeps some slots, the last in the places of those that leave; returns their order.

        Where none stays a row of padding does: other ranks may want this one to compute with them.
        """
        count = len(stay)
        if not count:
            self._begin([[self.pad]])
        if count in (0, len(self.ids)):
            return list(stay)
        movers = [slot for slot in stay if slot >= count]
        holes = sorted(set(range(count)).difference(stay))
        order = list(range(count))
        for hole, mover in zip(holes, movers, strict=True):
            order[hole] = mover
        self.ids, self.starts = self.ids[order], self.starts[order]
        unused = int(self.starts.min())
        self.starts, self.width = self.starts - unused, self.width - unused
        for layer in self.slots:
            layer.leave(holes, movers, unused)
        return order
