"""Tokenizer and model of one folder: which ids beyond the embedding are borne, which not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from unlearn_runner.data.encode import collate, encode
from unlearn_runner.data.prompts import Template
from unlearn_runner.errors import DataError
from unlearn_runner.models.folder import checked
from unlearn_runner.models.forward import scored_logits
from unlearn_runner.models.load import (
    load_model,
    load_tokenizer,
    new_model,
    save,
    train_tokenizer,
)
from unlearn_runner.models.shape import Shape

TEXTS = ["Who is it? Nobody.", "Where? Nowhere at all."] * 9


@pytest.fixture
def pair() -> tuple[Any, Any]:
    tokenizer = train_tokenizer(TEXTS, 300)
    return tokenizer, new_model(Shape(16, 16, 1, 1, context=64), tokenizer, 0)


BORNE: dict[str, Any] = {
    "nothing": lambda t: None,
    "a padding token": lambda t: t.add_special_tokens({"pad_token": "<new pad>"}),
    "a padding token and an image's": lambda t: t.add_special_tokens(
        {"pad_token": "<new pad>", "extra_special_tokens": ["<image>"]}
    ),
    "two padding tokens, one after another": lambda t: (
        t.add_special_tokens({"pad_token": "<first pad>"}),
        t.add_special_tokens({"pad_token": "<second pad>"}),
    ),
    "a mask": lambda t: t.add_special_tokens({"mask_token": "<mask>"}),
    "sixty-four reserved ones": lambda t: t.add_special_tokens(
        {"extra_special_tokens": [f"<reserved {i}>" for i in range(64)]}
    ),
}


@pytest.mark.parametrize("name", BORNE)
def test_ids_beyond_the_embedding_that_no_row_needs_are_not_padded_with(
    name: str, pair: tuple[Any, Any], tmp_path: Path
) -> None:
    tokenizer, model = pair
    BORNE[name](tokenizer)
    save(model, tokenizer, tmp_path)
    loaded = load_tokenizer(checked(tmp_path, "target.path"))
    assert loaded.pad_token_id < model.config.vocab_size
    rows = [encode(loaded, Template(), q, "Nobody.", 60) for q in ("Who?", "Who is it, then?")]
    batch = collate(rows, loaded.pad_token_id, torch.device("cpu"))
    assert (
        scored_logits(load_model(tmp_path, "float32", torch.device("cpu")), batch).isfinite().all()
    )


ADDED: dict[str, Any] = {
    "a word": lambda t: t.add_tokens(["Nobody"]),
    "two words": lambda t: t.add_tokens(["Nobody", "Nowhere"]),
    "a hundred words": lambda t: t.add_tokens([f"word{i}" for i in range(100)]),
    "a word of no ASCII": lambda t: t.add_tokens(["模型"]),
    "a word behind a padding token": lambda t: (
        t.add_special_tokens({"pad_token": "<new pad>"}),
        t.add_tokens(["Nobody"]),
    ),
    "a word behind an image's": lambda t: (
        t.add_special_tokens({"extra_special_tokens": ["<image>"]}),
        t.add_tokens(["Nobody"]),
    ),
    "a word of the training texts and another": lambda t: t.add_tokens(["Nobody is", "x y"]),
    "a thousand words": lambda t: t.add_tokens([f"word{i}" for i in range(1000)]),
    "a word between two padding tokens": lambda t: (
        t.add_special_tokens({"pad_token": "<first pad>"}),
        t.add_tokens(["Nobody"]),
        t.add_special_tokens({"pad_token": "<second pad>"}),
    ),
    "an end of sequence": lambda t: t.add_special_tokens({"eos_token": "<new end>"}),
    "an end that pads, too": lambda t: t.add_special_tokens(
        {"eos_token": "<new end>", "pad_token": "<new end>"}
    ),
}


@pytest.mark.parametrize("name", ADDED)
def test_other_ids_beyond_it_are_refused_when_planned(
    name: str, pair: tuple[Any, Any], tmp_path: Path
) -> None:
    tokenizer, model = pair
    size = model.config.vocab_size
    ADDED[name](tokenizer)
    save(model, tokenizer, tmp_path)
    with pytest.raises(DataError, match=f"more than the model's {size} ") as caught:
        checked(tmp_path, "target.path")
    assert "resize_token_embeddings" in str(caught.value)
    assert len(str(caught.value).splitlines()) == 2
    model.resize_token_embeddings(len(tokenizer))  # what the fix says
    save(model, tokenizer, tmp_path)
    assert checked(tmp_path, "target.path")


def test_a_special_token_that_nothing_writes_is_borne_until_a_row_does(
    pair: tuple[Any, Any], tmp_path: Path
) -> None:
    tokenizer, model = pair
    tokenizer.add_special_tokens({"extra_special_tokens": ["<image>"]})
    save(model, tokenizer, tmp_path)
    loaded = load_tokenizer(checked(tmp_path, "target.path"))
    assert encode(loaded, Template(), "Who?", "Nobody.", 60).num_labels
    with pytest.raises(DataError, match="'<image>'"):
        encode(loaded, Template(), "Who is <image>?", "Nobody.", 60)


def test_a_model_with_more_rows_than_ids_is_fine(pair: tuple[Any, Any], tmp_path: Path) -> None:
    tokenizer, model = pair
    model.resize_token_embeddings(len(tokenizer) + 13)
    save(model, tokenizer, tmp_path)
    assert checked(tmp_path, "target.path")
