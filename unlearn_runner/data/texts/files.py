"""Texts from files: a split is a file of texts, with what stands in front of each."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

from annotated_types import Ge

from unlearn_runner.data.records import FORMATS, Placed, read_records
from unlearn_runner.data.rows import Passage, Rows
from unlearn_runner.data.sources import Source
from unlearn_runner.data.texts.chunks import pieces, read_tokenizer
from unlearn_runner.errors import ConfigError, DataError, listed, nearest

BLANK = re.compile(r"\{(\w+)\}")
Count = Annotated[int, Ge(1)]


@dataclass(frozen=True)
class TextSplit:
    """One split: a file, and how its records become rows."""

    file: str
    """Below `data_dir`, without its ending: a JSON array or lines of objects or texts, CSV,
    Parquet, or plain text, which is one record. `forget` also finds `forget.first20.json`."""
    prompt: str = ""
    """What stands in front of each row and is not scored, with {columns} of the record."""
    text: str = "{text}"
    """What is scored. A record that is a text has the one column `text`."""
    shots: str | None = None
    """A file of examples, each written as prompt and text, in front of every row."""
    between: str = "\n\n"
    """Behind each example."""
    chunk: Count | None = None
    """Cut texts into rows of so many words, or tokens of `source.tokenizer`; null keeps them."""
    limit: Count | None = None
    """Only the first so many tokens of a row, counted by the model's tokenizer."""
    closed: bool = False
    """Write an end of sequence behind each row, to be learned and scored."""
    part: str | None = None
    """Of a file that is one object, the list of records under this name."""
    where: dict[str, str] = field(default_factory=dict)
    """Take only records in whose columns these regular expressions are found."""


@dataclass(frozen=True)
class TextFiles(Source):
    """Texts from a folder of files."""

    split: dict[str, TextSplit] = field(default_factory=dict)
    data_dir: str | None = None
    tokenizer: str | None = None
    """Folder of the tokenizer that chunks are counted with; null counts words."""

    def in_folder(self, folder: str) -> Source:
        """Returns the source with its files in `folder`."""
        return replace(self, data_dir=folder)

    def read(self, split: str) -> Rows:
        """Returns the rows of `split`."""
        if split not in self.split:
            close = nearest(split, self.split)
            raise ConfigError(
                f"benchmark.source.split has no {split}; it has {listed(self.split)}",
                f"{close} in place of {split}" if close else "",
            )
        spec = self.split[split]
        front = "".join(
            "".join(_filled(spec, record, place)) + spec.between
            for place, record in (self._records(spec.shots, spec) if spec.shots else ())
        )
        rows: list[Passage] = []
        for place, record in _taken(self._records(spec.file, spec), spec):
            prompt, text = _filled(spec, record, place)
            for piece in [text] if spec.chunk is None else self._pieces(text, spec.chunk):
                rows.append(Passage(front + prompt, piece, limit=spec.limit, closed=spec.closed))
        return Rows(split, tuple(rows))

    def _pieces(self, text: str, size: int) -> list[str]:
        counting = None
        if self.tokenizer is not None:
            folder = Path(self.tokenizer).expanduser()
            counting = read_tokenizer(folder, "benchmark.source.tokenizer")
        return pieces(text, size, counting)

    def _records(self, file: str, spec: TextSplit) -> list[Placed]:
        path = find_file(self.data_dir, file)
        if path.suffix == ".txt":
            return [(str(path), path.read_text(encoding="utf-8"))]
        found = read_records(path)
        return found if spec.part is None else named_part(str(path), found, spec.part)


def named_part(file: str, records: Sequence[Placed], name: str) -> list[Placed]:
    """Returns the records under a name in the one object that a file is.

    Raises:
        DataError: If it is none, or has no list there.
    """
    whole = records[0][1] if len(records) == 1 else None
    parts = whole if isinstance(whole, Mapping) else {}
    if not isinstance(parts.get(name), list):
        there = listed(repr(part) for part, rows in parts.items() if isinstance(rows, list))
        raise DataError(
            f"{file} has no list of rows under {name!r}; it has {there or 'no list by name'}",
            "benchmark.source.split.NAME.part names the list, or null takes the file's rows",
        )
    return [(f"{file} {name} row {i}", record) for i, record in enumerate(parts[name], 1)]


def _taken(records: Sequence[Placed], spec: TextSplit) -> list[Placed]:
    """Returns the records that a split takes.

    Raises:
        DataError: If it takes none.
        ConfigError: If it asks for what is no regular expression.
    """
    wanted = {column: _expression(column, text) for column, text in spec.where.items()}

    def fits(record: Any) -> bool:
        columns = record if isinstance(record, Mapping) else {}
        return all(p.search(str(columns.get(column, ""))) for column, p in wanted.items())

    found = [placed for placed in records if fits(placed[1])]
    if not found:
        conditions = listed(f"{column} like {pattern!r}" for column, pattern in spec.where.items())
        raise DataError(
            f"no row of {spec.file} has {conditions}",
            "a regular expression in benchmark.source.split.NAME.where that some row has",
        )
    return found


def _expression(column: str, text: str) -> re.Pattern[str]:
    try:
        return re.compile(text)
    except re.error as error:
        raise ConfigError(
            f"benchmark.source.split: where.{column}={text} is no regular expression: {error}",
            f"where.{column}={re.escape(text)} finds the text itself",
        ) from None


def _filled(spec: TextSplit, record: Any, place: str) -> tuple[str, str]:
    """Returns prompt and text of a record.

    Raises:
        DataError: If it lacks a column, or has no text in it.
    """
    columns = record if isinstance(record, Mapping) else {"text": record}

    def fill(match: re.Match[str]) -> str:
        value = columns.get(match[1])
        if not isinstance(value, str) or not value.strip():
            raise DataError(
                f"{place} has no text under {match[1]!r}; it has {listed(map(repr, columns))}",
                "a column of the file in benchmark.source.split.NAME.prompt and .text",
            )
        return value

    # Each column once: a text may hold braces itself.
    return BLANK.sub(fill, spec.prompt), BLANK.sub(fill, spec.text)


def find_file(data_dir: str | None, file: str) -> Path:
    """Returns the file of that name, whatever its ending.

    Raises:
        ConfigError: If no folder is set.
        DataError: If there is no such file, or several.
    """
    if data_dir is None:
        raise ConfigError(
            "benchmark.data_dir must be set: the folder of the benchmark's files",
            "benchmark.data_dir=FOLDER",
        )
    whole = Path(os.path.expanduser(data_dir)) / file
    endings = (*FORMATS, ".txt")
    found = [p for end in endings if (p := whole.with_name(whole.name + end)).is_file()]
    if not found and whole.parent.is_dir():
        named = sorted(whole.parent.glob(f"{whole.name}.*"))
        found = [path for path in named if path.suffix in endings]
    if len(found) != 1:
        raise DataError(
            f"benchmark.data_dir={data_dir} has {listed(p.name for p in found) or 'no file'} for "
            f"{file} ({', '.join(endings)}); one is needed",
            "put the file there, or name another one in benchmark.source",
        )
    return found[0]
