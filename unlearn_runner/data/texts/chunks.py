"""Cuts long texts into pieces of equal length, in tokens or in words."""

from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path
from typing import Any

from unlearn_runner.errors import DataError

NAMES = (("vocab.json", "merges.txt"), ("encoder.json", "vocab.bpe"))
"""Files of a byte-level BPE, as Hugging Face and as OpenAI name them."""
WORD = re.compile(r"\S+")


def read_tokenizer(folder: Path, key: str) -> Any:
    """Returns the fast tokenizer in a folder: `tokenizer.json`, or the two files of GPT-2's.

    Raises:
        DataError: If there is none, naming `key`, the setting that names the folder.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    try:
        if (folder / "tokenizer.json").is_file():
            return Tokenizer.from_file(str(folder / "tokenizer.json"))
        for vocab, merges in NAMES:
            if (folder / vocab).is_file() and (folder / merges).is_file():
                bpe = models.BPE.from_file(str(folder / vocab), str(folder / merges))
                tokenizer = Tokenizer(bpe)
                tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
                tokenizer.decoder = decoders.ByteLevel()
                return tokenizer
    except Exception as error:  # of the library's own kind, for whatever the files say
        raise DataError(
            f"{key}={folder} holds no tokenizer that can be read: {error}", "fetch it again"
        ) from None
    raise DataError(
        f"{key}={folder} holds neither tokenizer.json nor vocab.json and merges.txt",
        "the folder of the tokenizer",
    )


def pieces(text: str, size: int, tokenizer: Any = None) -> list[str]:
    """Returns a text cut behind every `size` tokens, or words where no tokenizer counts.

    The pieces are the text: joined they give it back, up to white space around it. The last one is
    as long as it is.
    """
    if tokenizer is None:
        spans = [match.span() for match in WORD.finditer(text)]
    else:
        spans = tokenizer.encode(text, add_special_tokens=False).offsets
    starts = [spans[i][0] for i in range(0, len(spans), size)]
    found = (text[start:end] for start, end in pairwise([*starts, len(text)]))
    return [piece for piece in found if piece.strip()]
