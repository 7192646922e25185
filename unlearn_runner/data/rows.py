"""Rows: the shape in which every benchmark's data enters the project: questions, or texts."""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from unlearn_runner.data.picture import PLACEHOLDER, Picture
from unlearn_runner.data.prompts import Prompting, Rendered
from unlearn_runner.errors import DataError


@dataclass(frozen=True)
class Row(ABC):
    """Base class of rows: what stands in front, and what is scored and trained on."""

    question: str
    answer: str
    paraphrased_answer: str | None = None
    perturbed_answers: tuple[str, ...] = ()
    paraphrased_question: str | None = None
    reworded: bool = False
    """Whether a model is asked the paraphrased question; the row is the same all the same."""

    @property
    def picture(self) -> Picture | None:
        """What the question is about, where that is seen and not read."""
        return None

    @property
    def fact(self) -> str | None:
        """What of the answer is the fact; none: all of it."""
        return None

    @property
    def identity(self) -> tuple[str, ...]:
        """What makes a row the same in two splits."""
        return self.question, self.answer

    @abstractmethod
    def rendered(self, tokenizer: Any, template: Prompting, answer: str | None = None) -> Rendered:
        """Returns what a model sees of the row, or of its question with another answer."""


@dataclass(frozen=True)
class QA(Row):
    """One question with its answer, and the other answers an evaluation compares it with."""

    def rendered(self, tokenizer: Any, template: Prompting, answer: str | None = None) -> Rendered:
        """Returns question and answer, prompted by the model's template."""
        question = (self.paraphrased_question if self.reworded else None) or self.question
        return template.render(tokenizer, question, self.answer if answer is None else answer)


@dataclass(frozen=True)
class FactQA(QA):
    """One question, and which part of its answer is the fact that was asked for."""

    entity: str = field(kw_only=True)

    @property
    def fact(self) -> str:
        """Its entity."""
        return self.entity


@dataclass(frozen=True)
class VisualQA(QA):
    """One question about a picture, which stands in front of it."""

    image: Picture = field(kw_only=True)
    category: str = field(default="", kw_only=True)
    """What the question is about; scores are given for each."""
    noisy_answer: str | None = field(default=None, kw_only=True)
    """What is to stand in the answer's place in training, where the data say so."""

    @property
    def picture(self) -> Picture:
        """Its image."""
        return self.image

    @property
    def identity(self) -> tuple[str, ...]:
        """With what the picture shows."""
        return self.question, self.answer, self.image.identity

    def rendered(self, tokenizer: Any, template: Prompting, answer: str | None = None) -> Rendered:
        """Returns question and answer, the picture's placeholder in front of the question."""
        question = (self.paraphrased_question if self.reworded else None) or self.question
        text = f"{PLACEHOLDER}\n{question}"
        return template.render(tokenizer, text, self.answer if answer is None else answer)


@dataclass(frozen=True)
class Passage(Row):
    """A text, or a sequence of token ids: no question is asked.

    Every token but the first is scored, or of a text behind a prompt (`question`) its own tokens.
    The model's template plays no part.
    """

    tokens: tuple[int, ...] | None = None
    """Token ids in the text's place; `answer` is what they stand for."""
    limit: int | None = None
    """Only the first so many tokens, those of the prompt included; none takes all."""
    closed: bool = False
    """Whether an end of sequence is written behind it, after all, and scored."""

    def rendered(self, tokenizer: Any, template: Prompting, answer: str | None = None) -> Rendered:
        """Returns prompt and text, or the token ids.

        Raises:
            DataError: If the ids stand for another text in this tokenizer.
        """
        whole = self.question + (self.answer if answer is None else answer)
        if self.tokens is not None and tokenizer is not None:
            text = tokenizer.decode(list(self.tokens), clean_up_tokenization_spaces=False)
            if text != whole:
                raise DataError(
                    f"the token ids of {whole[:40]!r}... are {text[:40]!r}... in the model's "
                    "tokenizer, which is not the one that they are of",
                    "benchmark.source.rows=text gives the model the text instead",
                )
        return Rendered(
            whole,
            len(self.question),
            len(whole),
            special_tokens=True,
            closed=self.closed,
            ids=self.tokens,
            limit=self.limit,
        )


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
    items: tuple[Row, ...]

    def __len__(self) -> int:
        return len(self.items)

    def __iter__(self) -> Iterator[Row]:
        return iter(self.items)

    def __getitem__(self, index: int) -> Row:
        return self.items[index]

    @staticmethod
    def joined(name: str, parts: Iterable[Rows]) -> Rows:
        """Returns the rows of several splits, one after another."""
        return Rows(name, tuple(row for part in parts for row in part))

    def first(self, limit: int | None) -> Rows:
        """Returns the split cut after its first `limit` rows."""
        return self if limit is None else Rows(self.name, self.items[:limit])

    @cached_property
    def digest(self) -> str:
        """Hash of the content: equal for equal rows in equal order, wherever they came from."""
        rows = [vars(item) for item in self.items]
        text = json.dumps(rows, ensure_ascii=False, default=lambda picture: picture.identity)
        return hashlib.sha256(text.encode()).hexdigest()[:16]
