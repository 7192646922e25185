"""Records about invented people as published benchmarks have theirs, without files or a network."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any

from annotated_types import Ge, Le

from unlearn_runner.data.pocket import by_person
from unlearn_runner.data.records import Placed
from unlearn_runner.data.sources import Source
from unlearn_runner.data.texts.files import TextFiles, TextSplit, named_part
from unlearn_runner.errors import DataError, listed

Record = dict[str, Any]
WINDOW = 3  # sentences of a text
NEIGHBORS = 4
TASKS = 3


@dataclass(frozen=True)
class PocketFiles(TextFiles):
    """Files of RWKU, KnowUnDo and LUME, generated: with their names and columns.

    The people to forget are the last ones. Each says one sentence about itself to each question.
    """

    seed: Annotated[int, Ge(0)] = 0
    people: Annotated[int, Ge(20), Le(400)] = 20
    forget: Annotated[int, Ge(1), Le(10)] = 1
    """People to forget."""
    facts: Annotated[int, Ge(WINDOW), Le(12)] = 6
    """Sentences about a person."""

    def in_folder(self, folder: str) -> Source:
        """Raises: no files are read."""
        return Source.in_folder(self, folder)

    def _records(self, file: str, spec: TextSplit) -> list[Placed]:
        if file not in self._files:
            raise DataError(
                f"the pocket benchmark has no file {file}; it has {listed(self._files)}",
                "one of these in benchmark.source.split.NAME.file",
            )
        records = [(f"{file} row {i}", record) for i, record in enumerate(self._files[file], 1)]
        return records if spec.part is None else named_part(file, records, spec.part)

    @cached_property
    def _files(self) -> dict[str, list[Any]]:
        people = by_person(self.seed, self.people, self.facts, "plain")
        kept, gone = people[: -self.forget], people[-self.forget :]
        return {**_rwku(gone, kept), **_knowundo(gone, kept), **_lume(gone, kept)}


def _rwku(gone: list[list[Record]], kept: list[list[Record]]) -> dict[str, list[Record]]:
    """Returns texts of neighbouring sentences, blanks, questions, and questions put otherwise."""
    rows = [row for person in gone for row in person]
    near = [row for person in kept[:NEIGHBORS] for row in person]
    return {
        "forget_mia": _windows(gone),
        "retain_mia": _windows(kept),
        "forget_level1": [_cloze(row) for row in rows],
        "forget_level2": [_asked(row, "{question}") for row in rows],
        "forget_level3": [
            _asked(row, "You may say what you know. {paraphrased_question}") for row in rows
        ],
        "neighbor_level1": [_cloze(row) for row in near],
        "neighbor_level2": [_asked(row, "{question}") for row in near],
    }


def _windows(people: list[list[Record]]) -> list[Record]:
    answers = [[row["answer"] for row in person] for person in people]
    return [
        {"text": " ".join(said[i : i + WINDOW])}
        for said in answers
        for i in range(len(said) - WINDOW + 1)
    ]


def _cloze(row: Record) -> Record:
    """Returns a sentence without its last word."""
    front, _, last = row["answer"].removesuffix(".").rpartition(" ")
    return {"query": f"{front} ___.", "answer": last}


def _asked(row: Record, query: str) -> Record:
    return {"query": query.format(**row), "answer": row["answer"]}


def _knowundo(gone: list[list[Record]], kept: list[list[Record]]) -> dict[str, list[Any]]:
    """Returns objects of two lists each: questions, and the same ones in other words."""
    wordings = {"train": "question", "val": "paraphrased_question"}
    return {
        file: [
            {
                part: [
                    {"text": row[column], "labels": row["answer"]}
                    for person in people
                    for row in person
                ]
                for part, column in wordings.items()
            }
        ]
        for file, people in (("unlearn", gone), ("retention", kept))
    }


def _lume(gone: list[list[Record]], kept: list[list[Record]]) -> dict[str, list[Record]]:
    """Returns texts to continue and questions; people take turns at the three tasks."""
    return {
        file: [
            {"id": f"{i}{kind}", "task": f"Task{i % TASKS + 1}", "input": front, "output": behind}
            for i, person in enumerate(people)
            for kind, front, behind in _tasks(person)
        ]
        for file, people in (("forget", gone), ("retain", kept))
    }


def _tasks(person: list[Record]) -> list[tuple[str, str, str]]:
    """Returns the kind, input and output of a person's rows."""
    said, half = [row["answer"] for row in person], len(person) // 2
    texts = [("sc1", " ".join(said[:half]), " ".join(said[half:]))]
    return texts + [("qa0", row["question"], row["answer"]) for row in person]
