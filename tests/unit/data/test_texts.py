"""Rows that ask no question: how texts and token sequences are read, cut and encoded."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from unlearn_runner.data.prompts import Template
from unlearn_runner.data.rows import Passage, Rows
from unlearn_runner.data.texts.chunks import pieces
from unlearn_runner.data.texts.files import TextFiles, TextSplit
from unlearn_runner.data.texts.pocket import PocketTexts
from unlearn_runner.data.texts.tdec import Tdec
from unlearn_runner.errors import ConfigError, DataError, UserError

TEXT = "One two  three\nfour five six seven. "


# --- pieces


@pytest.mark.parametrize("size", [1, 3, 7, 100])
def test_pieces_are_the_text(size: int) -> None:
    found = pieces(TEXT, size)
    assert "".join(found) == TEXT
    assert [len(piece.split()) for piece in found[:-1]] == [size] * (len(found) - 1)
    assert pieces("  \n ", size) == []


def test_pieces_are_counted_in_tokens_where_a_tokenizer_counts(tiny: Any) -> None:
    from tokenizers import Tokenizer

    fast: Tokenizer = tiny.tokenizer.backend_tokenizer
    found = pieces(TEXT * 3, 5, fast)
    assert "".join(found) == TEXT * 3
    assert len(found) == -(-len(fast.encode(TEXT * 3).ids) // 5)


# --- encoding


def encoded(tokenizer: Any, row: Passage, most: int = 100) -> Any:
    from unlearn_runner.data.encode import encode_rows

    return encode_rows(tokenizer, Template(), Rows("x", (row,)), most)[0]


def test_every_token_but_the_first_is_scored_and_no_end_is_written(tiny: Any) -> None:
    row = encoded(tiny.tokenizer, Passage("", TEXT))
    assert list(row.ids) == tiny.tokenizer(TEXT)["input_ids"]
    assert row.prompt_length == 1
    assert tiny.tokenizer.eos_token_id not in row.ids
    assert encoded(tiny.tokenizer, Passage("", TEXT, limit=4)).ids == row.ids[:4]


def test_behind_a_prompt_its_own_tokens_are_scored(tiny: Any) -> None:
    row = encoded(tiny.tokenizer, Passage("One two", " three four"))
    assert tiny.tokenizer.decode(row.ids[row.prompt_length :]) == " three four"
    assert tiny.tokenizer.decode(row.ids) == "One two three four"


def test_token_ids_are_taken_as_they_are_or_refused(tiny: Any) -> None:
    ids = tuple(tiny.tokenizer(TEXT)["input_ids"])[::-1]  # no tokenizer would cut the text so
    text = tiny.tokenizer.decode(list(ids), clean_up_tokenization_spaces=False)
    assert encoded(tiny.tokenizer, Passage("", text, tokens=ids)).ids == ids
    with pytest.raises(DataError, match="not the one that they are of"):
        encoded(tiny.tokenizer, Passage("", text + "!", tokens=ids))


def test_a_text_too_long_is_refused_by_its_place(tiny: Any) -> None:
    with pytest.raises(DataError, match=r"x row 1 has .* tokens"):
        encoded(tiny.tokenizer, Passage("", TEXT), most=5)


# --- files


@pytest.fixture
def files(tmp_path: Path) -> TextFiles:
    (tmp_path / "news").mkdir()
    for name, content in {
        "news/raw.first2.json": ["Alpha beta gamma.", "Delta epsilon."],
        "news/qa.json": [{"question": "Who {text}?", "answer": "Me"}],
        "news/icl.json": [{"question": "Why?", "answer": "So"}],
    }.items():
        (tmp_path / name).write_text(json.dumps(content), encoding="utf-8")
    (tmp_path / "book.txt").write_text(TEXT, encoding="utf-8")
    asked = {"prompt": "Q: {question}\nA:", "text": " {answer}"}
    splits = {
        "raw": TextSplit("news/raw"),
        "cut": TextSplit("news/raw", chunk=2, limit=9),
        "book": TextSplit("book", chunk=3),
        "asked": TextSplit("news/qa", shots="news/icl", **asked),
        "lacking": TextSplit("news/qa", text="{body}"),
        "missing": TextSplit("news/none"),
    }
    return TextFiles(splits, str(tmp_path))


def test_texts_from_files(files: TextFiles) -> None:
    assert [row.answer for row in files.read("raw")] == ["Alpha beta gamma.", "Delta epsilon."]
    assert [row.answer for row in files.read("cut")] == ["Alpha beta ", "gamma.", "Delta epsilon."]
    assert {row.limit for row in files.read("cut") if isinstance(row, Passage)} == {9}
    assert "".join(row.answer for row in files.read("book")) == TEXT
    row = files.read("asked")[0]
    assert row.question == "Q: Why?\nA: So\n\nQ: Who {text}?\nA:", "a blank of the text is no blank"
    assert row.answer == " Me"


@pytest.mark.parametrize(
    ("split", "said"),
    [("lacking", "no text under 'body'"), ("missing", "no file for news/none"), ("neither", "raw")],
)
def test_what_files_lack_is_said(files: TextFiles, split: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        files.read(split)


# --- the extraction challenge


@pytest.fixture
def challenge(tmp_path: Path, tiny: Any) -> Path:
    """The challenge's arrays in small, over a tokenizer of our own; 40 rows of 4 + 2 + 2 tokens."""
    arrays = np.arange(40 * 8, dtype=np.uint16).reshape(40, 8) % 300 + 2
    (tmp_path / "lm_extraction").mkdir()
    for name, part in zip(("preprefix", "prefix", "suffix"), ((0, 4), (4, 6), (6, 8)), strict=True):
        np.save(tmp_path / f"lm_extraction/train_{name}.npy", arrays[:, slice(*part)])
    tiny.tokenizer.save_pretrained(tmp_path / "tokenizers/gpt2")
    (tmp_path / "wikitext2").mkdir()
    (tmp_path / "wikitext2/valid.txt").write_text(TEXT * 40, encoding="utf-8")
    return tmp_path


def ids(rows: Rows) -> list[list[int]]:
    return [list(row.tokens or ()) for row in rows if isinstance(row, Passage)]


def test_sequences_are_preprefix_prefix_and_suffix(challenge: Path) -> None:
    found = ids(Tdec(str(challenge), sequences=3).read("forget"))
    assert len(found) == 3
    assert all(np.diff(row).tolist() == [1] * 7 for row in found if max(row) - min(row) == 7)
    assert found == ids(Tdec(str(challenge), sequences=3).read("forget"))
    assert found != ids(Tdec(str(challenge), sequences=3, seed=1).read("forget"))


def test_a_published_draw_is_by_doc_id(challenge: Path) -> None:
    (challenge / "draw.csv").write_text("doc_id,corpus,text\n7,github,x\n3,web,y\n")
    by_csv = ids(Tdec(str(challenge), draw=str(challenge / "draw.csv")).read("forget"))
    assert by_csv == [[58, 59, 60, 61, 62, 63, 64, 65], [26, 27, 28, 29, 30, 31, 32, 33]]
    (challenge / "draw.csv").write_text("doc_id\n40\n")
    with pytest.raises(DataError, match="doc_id 40 is no row of the 40 of train"):
        Tdec(str(challenge), draw=str(challenge / "draw.csv")).read("forget")
    (challenge / "draw.csv").write_text("id\n7\n")
    with pytest.raises(DataError, match=r"draw\.csv:2 has no number under doc_id"):
        Tdec(str(challenge), draw=str(challenge / "draw.csv")).read("forget")


def test_retain_chunks_are_whole_and_spread(challenge: Path) -> None:
    every = ids(Tdec(str(challenge), chunk=16).read("retain"))
    assert {len(row) for row in every} == {16}
    few = ids(Tdec(str(challenge), chunk=16, retain_chunks=3).read("retain"))
    assert few == [every[0], every[len(every) // 3], every[2 * len(every) // 3]]


def test_as_text_a_model_of_another_tokenizer_gets_them(challenge: Path) -> None:
    row = Tdec(str(challenge), rows="text", sequences=1).read("forget")[0]
    assert isinstance(row, Passage)
    assert (row.tokens, row.limit) == (None, 8)


def test_a_missing_array_names_those_that_are_there(challenge: Path) -> None:
    (challenge / "lm_extraction/train_preprefix.npy").unlink()
    with pytest.raises(DataError, match=r"train_preprefix\.npy") as error:
        Tdec(str(challenge)).read("forget")
    assert "'benchmark.source.arrays=[prefix,suffix]'" in str(error.value)
    assert len(ids(Tdec(str(challenge), arrays=("prefix", "suffix")).read("forget"))[0]) == 4
    with pytest.raises(ConfigError, match=r"benchmark\.data_dir must be set"):
        Tdec().read("forget")


def test_the_real_arrays_hold_the_published_draw(shared: Path, tmp_path: Path) -> None:
    """Draw 3 of Jang et al., whose first sequence is of Kubernetes' protocol buffers."""
    drawn = json.loads((shared / "data/knowledge_unlearning/doc_ids.json").read_text())["32_3"]
    draw = tmp_path / "lm_extraction_32_3.csv"
    draw.write_text("\n".join(["doc_id", *map(str, drawn)]))
    source = Tdec(str(shared / "data"), arrays=("prefix", "suffix"), draw=str(draw))
    rows = source.read("forget")
    assert (len(rows), {len(row) for row in ids(rows)}) == (32, {100})
    assert "repeated CronJob items = 2;" in rows[0].answer


# --- generated


def test_pocket_texts_are_a_function_of_the_seed() -> None:
    one, two, other = PocketTexts(), PocketTexts(), PocketTexts(seed=1)
    for split in ("sequences", "forget", "retain", "knowmem_forget", "verbmem"):
        assert one.read(split) == two.read(split) != other.read(split)
    forget, halves = one.read("forget"), one.read("verbmem")
    assert [row.answer for row in forget] == [row.question + row.answer for row in halves]
    asked = {row.question.rpartition("\n\n")[2] for row in one.read("knowmem_retain")}
    shown = one.read("knowmem_forget")[0].question.split("\n\n")[:-1]
    assert len(shown) == 2
    assert not any(example.startswith(question) for example in shown for question in asked)
