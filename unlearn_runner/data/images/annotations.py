"""Annotations: questions about pictures in a folder, in a file that anybody may have written."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Annotated

from annotated_types import Ge, Lt

from unlearn_runner.data.images.files import find_image
from unlearn_runner.data.images.questions import NO, YES, PictureQuestions
from unlearn_runner.data.picture import PLACEHOLDER
from unlearn_runner.data.records import read_records
from unlearn_runner.data.rows import VisualQA
from unlearn_runner.errors import ConfigError, DataError, listed

ROW = '{"image": "a.png", "question": "...", "answer": "yes", "category": "..."}'
MAX_CHOICES = 26
SPLITS = ("pretrain", "train", "validation", "test")
ALSO = {"val": "validation"}
Share = Annotated[float, Ge(0), Lt(1)]


@dataclass(frozen=True)
class Annotations(PictureQuestions):
    """Questions about pictures in a folder, one a line of a JSON-lines file.

    A line has `image` (a path within the folder), `question`, `answer` (a text, or its place among
    `choices`), and perhaps `choices` (yes and no where left out; others are written below the
    question), `category`, `mask`, `noisy_answer` and `split` (pretrain, train, val or test).
    Whatever else it has is not read.
    """

    data_dir: str | None = None
    """Folder of the file and of the pictures."""
    file: str = "annotations.jsonl"
    """Name of the file in the folder."""
    pretrain_share: Share = 0.0
    """Share of pictures on which a from-scratch base is trained first; this and the other shares
    are of files without `split`."""
    validation_share: Share = 0.2
    test_share: Share = 0.2
    seed: Annotated[int, Ge(0)] = 0
    """Of the splits."""

    def __post_init__(self) -> None:
        if self.pretrain_share + self.validation_share + self.test_share >= 1:
            raise ConfigError(
                "benchmark.source: pretrain_share, validation_share and test_share leave no "
                "pictures to train on",
                "benchmark.source.pretrain_share=0 benchmark.source.validation_share=0.2 "
                "benchmark.source.test_share=0.2",
            )
        if Path(self.file).name != self.file:
            raise ConfigError(
                f"benchmark.source.file={self.file} is no name of a file in benchmark.data_dir",
                "benchmark.source.file=annotations.jsonl",
            )

    def in_folder(self, folder: str) -> PictureQuestions:
        """Returns the source with its files in `folder`."""
        return replace(self, data_dir=folder)

    def read(self, split: str) -> Sequence[VisualQA]:
        """Returns the rows of a split, checked."""
        return self._rows[split]

    @cached_property
    def _rows(self) -> dict[str, list[VisualQA]]:
        if self.data_dir is None:
            raise ConfigError(
                "benchmark.data_dir must be set: the folder of the annotations and the pictures",
                f"benchmark.data_dir=FOLDER (with {self.file}, one line per question: {ROW})",
            )
        folder = Path(self.data_dir).expanduser()
        path = folder / self.file
        if not path.is_file():
            raise DataError(
                f"benchmark.data_dir={self.data_dir} has no {self.file}",
                f"one line per question there: {ROW}",
            )
        placed = [(where, _object(record, where)) for where, record in read_records(path)]
        rows = [_row(record, folder, where) for where, record in placed]
        named = [_split(record, where) for where, record in placed]
        if None in named and any(named):
            where = placed[named.index(None)][0]
            raise DataError(f"{where} has no 'split', and others have", "in every line or in none")
        if None in named:
            drawn = self._drawn(rows)
            named = [drawn[row.image.identity] for row in rows]
        found: dict[str, list[VisualQA]] = {name: [] for name in SPLITS}
        for row, split in zip(rows, named, strict=True):
            found[str(split)].append(row)
        for name in SPLITS[1:]:
            if not found[name]:
                raise DataError(f"{path} has no rows for {name}", "more lines, or other shares")
        return found

    def _drawn(self, rows: Sequence[VisualQA]) -> dict[str, str]:
        """Returns the split of each picture, all questions about it being in one."""
        pictures = sorted({row.image.identity for row in rows})
        random.Random(f"pictures:{self.seed}").shuffle(pictures)
        train = 1 - self.pretrain_share - self.validation_share - self.test_share
        shares = (self.pretrain_share, train, self.validation_share, self.test_share)
        found: dict[str, str] = {}
        taken, total = 0, 0.0
        for name, share in zip(SPLITS, shares, strict=True):
            total += share
            end = round(total * len(pictures))
            found |= dict.fromkeys(pictures[taken:end], name)
            taken = end
        return found


def _object(record: object, where: str) -> Mapping[str, object]:
    if not isinstance(record, Mapping):
        raise DataError(f"{where} is not a JSON object", ROW)
    return record


def _split(record: Mapping[str, object], where: str) -> str | None:
    split = record.get("split")
    if split is None:
        return None
    name = ALSO.get(str(split), str(split))
    if name not in SPLITS:
        raise DataError(
            f"{where} has the split {name[:40]!r}; allowed: {listed((*SPLITS, *ALSO))}",
            '"split": "train"',
        )
    return name


def _row(record: Mapping[str, object], folder: Path, where: str) -> VisualQA:
    """Returns the row of a line.

    Raises:
        DataError: If a part of it is missing or malformed.
    """
    question, choices = record.get("question"), _choices(record, where)
    if not isinstance(question, str) or not question.strip() or PLACEHOLDER in question:
        raise DataError(f"{where} has no 'question' that is a text without {PLACEHOLDER}", ROW)
    category = record.get("category") or ""
    if not isinstance(category, str) or len(category) > 80:
        raise DataError(f"{where} has a 'category' that is no short text", '"category": "colour"')
    answer = _answer(record, "answer", choices, where)
    noisy = None
    if record.get("noisy_answer") is not None:
        noisy = _answer(record, "noisy_answer", choices, where)
    if {c.lower() for c in choices} != {YES, NO}:
        question = "\n".join((question, *choices))
    return VisualQA(
        question,
        answer,
        None,
        tuple(choice for choice in choices if choice != answer),
        image=find_image(folder, record.get("image"), where, record.get("mask")),
        category=category,
        noisy_answer=None if noisy == answer else noisy,
    )


def _choices(record: Mapping[str, object], where: str) -> list[str]:
    found = record.get("choices") or [YES, NO]
    listing = found if isinstance(found, list) else []
    texts = [c.strip() for c in listing if isinstance(c, str) and c.strip()]
    if len(texts) < len(listing) or not 2 <= len({*texts}) == len(texts) <= MAX_CHOICES:
        raise DataError(
            f"{where} has 'choices' that are no list of 2 to {MAX_CHOICES} different texts",
            '"choices": ["A. a cat", "B. a dog"]',
        )
    return texts


def _answer(record: Mapping[str, object], name: str, choices: list[str], where: str) -> str:
    found = record.get(name)
    if type(found) is int and 0 <= found < len(choices):
        return choices[found]
    same = [choice for choice in choices if isinstance(found, str) and choice == found.strip()]
    if not same:
        raise DataError(
            f"{where} has {str(found)[:60]!r} as {name!r}, which is none of its choices "
            f"({listed(map(repr, choices), 4)}) nor a place among them",
            f'"{name}": 0, or the text of a choice',
        )
    return same[0]
