"""CLEAR: TOFU's authors with faces, in files that the user has made of the published data set."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from unlearn_runner.data.checks import checked
from unlearn_runner.data.images.files import find_image
from unlearn_runner.data.records import read_records
from unlearn_runner.data.rows import QA, Rows, VisualQA
from unlearn_runner.data.sources import Files

CAPTIONS = {
    "answer": "caption",
    "paraphrased_answer": "paraphrased_caption",
    "perturbed_answer": "perturbed_captions",
}
"""Columns of rows with a picture, by ours."""


@dataclass(frozen=True)
class Clear(Files):
    """CLEAR (Dontsov et al. 2024, 2410.18057): captions of faces, and TOFU's questions beside them.

    A row with an `image` (a path within the folder) asks one question, whose answer is its
    `caption`; one without is TOFU's. Deviation: the published code draws the question from nine at
    every access.
    """

    question: str = "What can you see in this picture, and who is it?"
    """What rows with a picture ask."""

    @property
    def sees(self) -> bool:
        """They are about pictures."""
        return True

    def read(self, split: str) -> Rows:
        """Returns the rows of `split`, checked."""
        path, _ = self.find(split)
        placed = read_records(path)
        return Rows(split, tuple(self._row(record, path.parent, where) for where, record in placed))

    def _row(self, record: object, folder: Path, where: str) -> QA:
        if not isinstance(record, Mapping) or record.get("image") is None:
            return checked(record, where)
        found = {ours: record[theirs] for ours, theirs in CAPTIONS.items() if theirs in record}
        row = checked({"question": self.question, **found}, where)
        return VisualQA(**vars(row), image=find_image(folder, record["image"], where))
