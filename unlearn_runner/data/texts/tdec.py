"""Training Data Extraction Challenge: sequences of GPT-2 tokens, and WikiText beside them."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from annotated_types import Ge, Le

from unlearn_runner.data.records import read_records
from unlearn_runner.data.rows import Passage, Rows
from unlearn_runner.data.sources import Source
from unlearn_runner.data.texts.chunks import read_tokenizer
from unlearn_runner.data.texts.files import find_file
from unlearn_runner.errors import ConfigError, DataError, listed

STREAM = 8
"""A stream of draws of its own."""
Count = Annotated[int, Ge(1)]
Array = Literal["preprefix", "prefix", "suffix"]


@dataclass(frozen=True)
class Tdec(Source):
    """Sequences of the challenge, in the order preprefix, prefix, suffix; WikiText in chunks.

    Splits: `forget`, the drawn sequences; `retain` and `heldout`, chunks of two texts.
    """

    data_dir: str | None = None
    """Folder that holds the next three."""
    challenge: str = "lm_extraction"
    """Folder of the arrays `<part>_preprefix.npy` (100 tokens), `_prefix` and `_suffix` (50)."""
    wikitext: str = "wikitext2"
    """Folder of WikiText's plain texts."""
    tokenizer: str = "tokenizers/gpt2"
    """Folder of GPT-2's tokenizer, which the sequences are tokens of."""
    part: Literal["train", "val"] = "train"
    arrays: tuple[Array, ...] = ("preprefix", "prefix", "suffix")
    draw: str | None = None
    """File whose column doc_id says which rows to forget, as Jang et al. publish their five draws:
    lm_extraction_32_0.csv to _4. Null draws them by `seed`."""
    sequences: Annotated[int, Ge(1), Le(15_000)] = 32
    """How many are drawn by `seed`."""
    seed: Annotated[int, Ge(0)] = 0
    retain: str = "valid"
    """Text of the retain chunks."""
    heldout: str = "test"
    """Text of the held-out chunks."""
    chunk: Count = 200
    """Tokens of a chunk; a rest that is shorter is left out."""
    retain_chunks: Count | None = None
    """Only so many retain chunks, spread over the text; null takes all."""
    heldout_chunks: Count | None = None
    """The same of held-out ones."""
    rows: Literal["tokens", "text"] = "tokens"
    """What a model is given: the token ids, which must be its tokenizer's, or the texts that they
    stand for, cut after as many tokens of its own: for a model made from scratch."""

    def in_folder(self, folder: str) -> Source:
        """Returns the source with its files in `folder`."""
        return replace(self, data_dir=folder)

    def read(self, split: str) -> Rows:
        """Returns the rows of `split`."""
        if split == "forget":
            return Rows(split, tuple(self._row(ids) for ids in self._drawn().tolist()))
        files = {"retain": self.retain, "heldout": self.heldout}
        if split not in files:
            raise DataError(
                f"this benchmark has no split {split}; it has forget, {listed(files)}",
                "one of these",
            )
        ids = self._ids(files[split])
        starts = list(range(0, len(ids) - self.chunk + 1, self.chunk))
        wanted = {"retain": self.retain_chunks, "heldout": self.heldout_chunks}[split]
        if wanted is not None and wanted < len(starts):
            starts = [starts[i * len(starts) // wanted] for i in range(wanted)]
        return Rows(split, tuple(self._row(ids[i : i + self.chunk]) for i in starts))

    def _ids(self, text: str) -> list[int]:
        """Returns the tokens of one of WikiText's texts, which takes a second or two, once."""
        if text not in self._encoded:
            path = find_file(str(self._folder(self.wikitext)), text)
            content = path.read_text(encoding="utf-8")
            self._encoded[text] = self._gpt2.encode(content, add_special_tokens=False).ids
        return self._encoded[text]

    @cached_property
    def _encoded(self) -> dict[str, list[int]]:
        return {}

    @cached_property
    def _gpt2(self) -> Any:
        return read_tokenizer(self._folder(self.tokenizer), "benchmark.source.tokenizer")

    def _row(self, ids: list[int]) -> Passage:
        text = self._gpt2.decode(ids, skip_special_tokens=False)
        if self.rows == "text":
            return Passage("", text, limit=len(ids))
        return Passage("", text, tokens=tuple(ids))

    def _folder(self, name: str) -> Path:
        if self.data_dir is None:
            raise ConfigError(
                "benchmark.data_dir must be set: the folder that holds lm_extraction/, wikitext2/ "
                "and tokenizers/gpt2/",
                "benchmark.data_dir=FOLDER",
            )
        return Path(os.path.expanduser(self.data_dir)) / name

    def _array(self, name: str) -> Any:
        path = self._folder(self.challenge) / f"{self.part}_{name}.npy"
        try:
            return np.load(path, allow_pickle=False).astype(np.int64)
        except FileNotFoundError:
            left = [one for one in self.arrays if one != name]
            raise DataError(
                f"there is no {path}",
                "fetch it; or the sequences whose arrays are there: benchmark.source.part=val, or "
                f"shorter ones: 'benchmark.source.arrays=[{','.join(left)}]'",
            ) from None
        except (OSError, ValueError) as error:
            raise DataError(f"{path} is no array of numbers: {error}", "fetch it again") from None

    def _drawn(self) -> Any:
        parts = [self._array(name) for name in self.arrays]
        if not parts or any(part.ndim != 2 or len(part) != len(parts[0]) for part in parts):
            raise DataError(
                "the challenge's arrays are not of one number of rows: "
                f"{listed(f'{n} {p.shape}' for n, p in zip(self.arrays, parts, strict=True))}",
                "fetch them again",
            )
        every = np.concatenate(parts, axis=1)
        if self.draw is None:
            generator = np.random.default_rng([self.seed, STREAM])
            chosen = sorted(generator.choice(len(every), self.sequences, replace=False).tolist())
        else:
            chosen = _doc_ids(Path(self.draw).expanduser())
        if beyond := [i for i in chosen if not 0 <= i < len(every)]:
            raise DataError(
                f"doc_id {beyond[0]} is no row of the {len(every)} of {self.part}",
                "benchmark.source.part=train",
            )
        return every[chosen]


def _doc_ids(path: Path) -> list[int]:
    """Returns the rows that a file names."""
    found = []
    for place, record in read_records(path):
        try:
            found.append(int(record["doc_id"]))
        except (KeyError, TypeError, ValueError):
            raise DataError(
                f"{place} has no number under doc_id (benchmark.source.draw)",
                "benchmark.source.draw=null draws by benchmark.source.seed",
            ) from None
    return found
