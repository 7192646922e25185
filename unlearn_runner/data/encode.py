"""Encodes text to token ids, with the boundary between prompt and answer; pads rows to batches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from unlearn_runner.data.picture import PLACEHOLDER, Picture, Shown
from unlearn_runner.data.prompts import Prompting, Rendered
from unlearn_runner.data.rows import Row, Rows
from unlearn_runner.errors import DataError


@dataclass(frozen=True)
class Encoded:
    """One row in tokens: prompt, answer, end of sequence."""

    ids: tuple[int, ...]
    prompt_length: int
    """Tokens before the first scored one."""
    start_logprob: np.ndarray[Any, Any] | None = None
    """Per scored token, its log-probability under the start model, where a method needs it."""
    other: Encoded | None = None
    """The same question with another answer (a refusal, an alternate), where a method needs it."""
    image: Shown | None = None
    """What the placeholders among its tokens stand for."""

    @property
    def num_labels(self) -> int:
        """Number of scored tokens."""
        return len(self.ids) - self.prompt_length


def encode(
    tokenizer: Any, template: Prompting, question: str, answer: str, max_tokens: int
) -> Encoded:
    """Encodes prompt and answer in one piece, so that they are tokenised as they are generated.

    A token is scored when it ends behind the prompt's last character; counting the tokens of the
    prompt alone would be off wherever tokens span the boundary, and wherever a tokenizer adds
    special tokens. One end-of-turn token closes the answer: the one a chat template writes behind
    it, else the tokenizer's end of sequence. Cut at `max_tokens`; only an uncut row carries it.

    Raises:
        DataError: If nothing of the answer is left within `max_tokens`.
    """
    return _encode(tokenizer, template.render(tokenizer, question, answer), max_tokens, question)


def _encode(
    tokenizer: Any,
    rendered: Rendered,
    max_tokens: int,
    question: str,
    picture: Picture | None = None,
) -> Encoded:
    """Encodes what a model sees of a row; the first token of all is never scored."""
    ids, prompt_length = list(rendered.ids or ()), 1
    if rendered.ids is None:
        found = tokenizer(
            rendered.text,
            return_offsets_mapping=True,
            add_special_tokens=rendered.special_tokens,
        )
        ids, spans = found["input_ids"], found["offset_mapping"]
        behind = (i for i, span in enumerate(spans) if span[1] > rendered.prompt_end)
        prompt_length = max(1, next(behind, len(ids)))
        ids = _ended(tokenizer, ids, spans, rendered)
    shown = None
    if picture is not None:
        shown = _shown(tokenizer, picture, ids[:prompt_length], question)
        at, more = ids.index(shown.how.token), shown.how.tokens - 1
        ids[at:at] = [shown.how.token] * more
        prompt_length += more
    ids = ids[: min(max_tokens, rendered.limit or max_tokens)]
    known = getattr(tokenizer, "num_embeddings", None)  # set where the model is known
    if known is not None and max(ids) >= known:
        token = tokenizer.convert_ids_to_tokens(max(ids))
        raise DataError(
            f"the row {question[:60]!r}... holds the token {token!r}, which the model has no "
            f"embedding for (it has {known})",
            "take it out of the row, or save the model with its embeddings resized",
        )
    if prompt_length >= len(ids):
        raise DataError(
            f"the question {question[:60]!r}... fills all {max_tokens} tokens; "
            "no answer token is left",
            "raise max_length, or shorten the row",
        )
    return Encoded(tuple(ids), prompt_length, image=shown)


def _shown(tokenizer: Any, picture: Picture, prompt: Sequence[int], question: str) -> Shown:
    """Returns a picture as the tokenizer's model takes it.

    Raises:
        DataError: If that model sees nothing, or the prompt has not one place for a picture.
    """
    how = getattr(tokenizer, "images", None)  # set where the model is known
    if how is None:
        raise DataError(
            f"the row {question[:60]!r} shows a picture, and the model reads text alone",
            "model=tiny_llava, or another one with a preprocessor_config.json in its folder",
        )
    if prompt.count(how.token) != 1:
        raise DataError(
            f"the row {question[:60]!r} has {prompt.count(how.token)} places for one picture",
            f"take {PLACEHOLDER} out of its question",
        )
    return Shown(picture, how)


def _ended(
    tokenizer: Any, ids: list[int], spans: list[tuple[int, int]], rendered: Rendered
) -> list[int]:
    """Returns the ids up to the token that closes the answer, which is appended when missing.

    Of a text that is not closed, up to its own last token.
    """
    last = len(spans) - 1
    # A tokenizer's own special tokens span no text; only one behind the last text can be the end.
    while last >= 0 and spans[last][0] >= min(spans[last][1], rendered.answer_end):
        last -= 1
    if not rendered.closed:
        return ids[: last + 1]
    special = set(tokenizer.all_special_ids) if last + 1 < len(ids) else ()
    for i in range(last + 1, len(ids)):
        if ids[i] in special:
            return ids[: i + 1]
    return [*ids[: last + 1], tokenizer.eos_token_id]


def stops(tokenizer: Any, template: Prompting) -> list[int]:
    """Returns the tokens that end a generated answer: the end of sequence, and of a turn."""
    closing = encode(tokenizer, template, "Q", "A", max_tokens=1 << 30).ids[-1]
    return sorted({tokenizer.eos_token_id, closing})


def encode_rows(tokenizer: Any, template: Prompting, rows: Rows, max_tokens: int) -> list[Encoded]:
    """Encodes every row, uncut; see `encode_row`."""
    return [
        encode_row(tokenizer, template, row, max_tokens, f"{rows.name} row {number}")
        for number, row in enumerate(rows, 1)
    ]


def encode_row(
    tokenizer: Any,
    template: Prompting,
    row: Row,
    max_tokens: int,
    where: str,
    answer: str | None = None,
) -> Encoded:
    """Encodes a row, or its question with another answer, that must fit.

    What a cut answer scores is not what its whole would.

    Raises:
        DataError: If the row is longer than `max_tokens`, naming `where` it stands.
    """
    rendered = row.rendered(tokenizer, template, answer)
    encoded = _encode(tokenizer, rendered, 1 << 30, row.question or row.answer, row.picture)
    return _fitting(encoded, row.question or row.answer, max_tokens, where)


def _fitting(row: Encoded, question: str, max_tokens: int, where: str) -> Encoded:
    if len(row.ids) > max_tokens:
        raise DataError(
            f"{where} has {len(row.ids)} tokens with its end, more than the {max_tokens} that "
            f"max_length and the model's context allow: {question[:60]!r}",
            f"target.train.max_length={len(row.ids)} train.max_length={len(row.ids)} (of a "
            "from-scratch model also model.pretrain.max_length and model.shape.context), or "
            "shorten the row",
        )
    return row


def encode_entity(
    tokenizer: Any, template: Prompting, row: Row, max_tokens: int, where: str
) -> Encoded:
    """Encodes a row up to the end of its entity, the only part that is scored.

    Its tokens are those that overlap it where it first stands in the answer. Of a row without one
    all of the answer is scored, but no end of sequence.

    Raises:
        DataError: If the row is longer than `max_tokens`; see `encode_row`.
    """
    whole, rendered = (
        encode_row(tokenizer, template, row, max_tokens, where),
        row.rendered(tokenizer, template),
    )
    if row.fact is None:
        return replace(whole, ids=whole.ids[: len(whole.ids) - rendered.closed])
    start = rendered.text.index(row.fact, rendered.prompt_end)
    found = tokenizer(
        rendered.text, return_offsets_mapping=True, add_special_tokens=rendered.special_tokens
    )
    end = start + len(row.fact)
    spans = enumerate(found["offset_mapping"])
    inside = [i for i, (first, last) in spans if last > start and first < end]
    first = max(inside[0], whole.prompt_length)
    return replace(whole, ids=whole.ids[: inside[-1] + 1], prompt_length=first)


def length_limit(model: Any, max_length: int) -> int:
    """Returns how many tokens a row may have: what is set, or what the model has positions for."""
    return min(max_length, positions(model) or max_length)


def positions(model: Any) -> int | None:
    """Returns how many tokens a model has positions for; none when its architecture has no bound.

    Models of several modalities keep the number with their text part.
    """
    return getattr(model.config.get_text_config(), "max_position_embeddings", None)


def with_start(encoded: Sequence[Encoded], logprobs: Sequence[Any]) -> list[Encoded]:
    """Returns the rows with the start model's per-token log-probabilities attached."""
    pairs = zip(encoded, logprobs, strict=True)
    return [replace(row, start_logprob=np.asarray(logprob)) for row, logprob in pairs]


@dataclass(frozen=True)
class Batch:
    """Batch of rows padded on the right, with the positions at which a label is scored.

    Shapes: `input_ids`, `attention_mask` [rows, length]; `row`, `position`, `labels`,
    `start_logprob` [scored tokens]. The logits at `position` predict the label.
    """

    input_ids: Tensor
    attention_mask: Tensor
    row: Tensor
    position: Tensor
    labels: Tensor
    num_rows: int
    start_logprob: Tensor | None
    other: Batch | None = None
    """The same questions with other answers, row by row."""
    images: dict[str, Tensor] = field(default_factory=dict)
    """Further arguments of the model's forward pass, where rows have pictures: `pixel_values`, one
    for each such row, in their order; [pictures, 3, height, width]."""

    def everywhere(self) -> Batch:
        """Returns the batch with every token's position scored, prompts included; no labels."""
        row, position = self.attention_mask.nonzero(as_tuple=True)
        return replace(self, row=row, position=position, labels=position, start_logprob=None)

    def rows_sum(self, values: Tensor) -> Tensor:
        """Sums a value per scored token over each row; [scored tokens] -> [rows]."""
        return values.new_zeros(self.num_rows).index_add(0, self.row, values)


def collate(rows: Sequence[Encoded], pad: int, device: torch.device) -> Batch:
    """Pads rows to a batch on `device`."""
    length = max(len(row.ids) for row in rows)
    ids = np.full((len(rows), length), pad, dtype=np.int64)
    mask = np.zeros((len(rows), length), dtype=np.int64)
    for i, row in enumerate(rows):
        ids[i, : len(row.ids)] = row.ids
        mask[i, : len(row.ids)] = 1
    counts = [row.num_labels for row in rows]
    row_index = np.repeat(np.arange(len(rows)), counts)
    label_at = np.concatenate([np.arange(row.prompt_length, len(row.ids)) for row in rows])
    starts = [row.start_logprob for row in rows if row.start_logprob is not None]
    start = torch.from_numpy(np.concatenate(starts)) if len(starts) == len(rows) else None
    others = [row.other for row in rows if row.other is not None]
    return Batch(
        input_ids=torch.from_numpy(ids).to(device),
        attention_mask=torch.from_numpy(mask).to(device),
        row=torch.from_numpy(row_index).to(device),
        position=torch.from_numpy(label_at - 1).to(device),
        labels=torch.from_numpy(ids[row_index, label_at]).to(device),
        num_rows=len(rows),
        start_logprob=None if start is None else start.to(device),
        other=collate(others, pad, device) if len(others) == len(rows) else None,
        images=pixels_of([row.image for row in rows], device),
    )


def pixels_of(images: Sequence[Shown | None], device: torch.device) -> dict[str, Tensor]:
    """Returns what a forward pass is given of the pictures of rows; nothing where they have none.

    A model puts them in the places of the placeholders, in the order of rows.
    """
    values = [image.values() for image in images if image is not None]
    return {"pixel_values": torch.from_numpy(np.stack(values)).to(device)} if values else {}
