"""Question/answer rows: the shape in which every benchmark's data enters the project."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property


@dataclass(frozen=True)
class QA:
    """One question with its answer, and the other answers an evaluation compares it with."""

    question: str
    answer: str
    paraphrased_answer: str | None = None
    perturbed_answers: tuple[str, ...] = ()


@dataclass(frozen=True)
class ChoiceQA(QA):
    """One question with several texts to continue it, one of which is right."""

    context: str = ""
    """Prompt as it is scored, question and options filled in."""
    choices: tuple[str, ...] = ()
    """Continuations of the prompt."""
    correct: int = 0
    """Which of them is right."""


@dataclass(frozen=True)
class Rows:
    """A named, ordered split. Rows are identified by their position in it."""

    name: str
    items: tuple[QA, ...]

    def __len__(self) -> int:
        return len(self.items)

    def __iter__(self) -> Iterator[QA]:
        return iter(self.items)

    def __getitem__(self, index: int) -> QA:
        return self.items[index]

    def first(self, limit: int | None) -> Rows:
        """Returns the split cut after its first `limit` rows."""
        return self if limit is None else Rows(self.name, self.items[:limit])

    @cached_property
    def digest(self) -> str:
        """Hash of the content: equal for equal rows in equal order, wherever they came from."""
        text = json.dumps([vars(item) for item in self.items], ensure_ascii=False)
        return hashlib.sha256(text.encode()).hexdigest()[:16]
