"""Generated texts: sequences to extract and articles to forget, without files or a network."""

from __future__ import annotations

import random
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any

from annotated_types import Ge, Le

from unlearn_runner.data.pocket import WORDS, generate
from unlearn_runner.data.rows import Passage, Rows
from unlearn_runner.data.sources import Source
from unlearn_runner.errors import DataError, listed

QUESTION, ANSWER, BETWEEN = "Question: {question}\nAnswer:", " {answer}", "\n\n"
SHOTS = 2


@dataclass(frozen=True)
class PocketTexts(Source):
    """Articles about the pocket benchmark's people, questions about them, random sequences.

    Splits: `sequences`, random words, which nothing but memory can continue; `forget`, `retain` and
    `holdout`, an article per person; `knowmem_forget` and `knowmem_retain`, few-shot questions;
    `questions_forget` and `questions_retain`, the questions of all people with no examples, for a
    model that is to learn how one answers; `verbmem`, the forget articles, their first half as the
    prompt.
    """

    seed: Annotated[int, Ge(0)] = 0
    people: Annotated[int, Ge(20), Le(400)] = 20
    facts: Annotated[int, Ge(2), Le(12)] = 6
    """Sentences of an article."""
    sequences: Annotated[int, Ge(1), Le(10_000)] = 8
    length: Annotated[int, Ge(8), Le(10_000)] = 48
    """Tokens of a sequence, by the model's tokenizer."""

    def read(self, split: str) -> Rows:
        """Returns the generated rows of `split`."""
        if split not in self._splits:
            raise DataError(
                f"the pocket texts have no split {split}; they have {listed(self._splits)}",
                "one of these",
            )
        return Rows(split, tuple(self._splits[split]))

    @cached_property
    def _splits(self) -> dict[str, list[Passage]]:
        people = generate(self.seed, self.people, self.facts)
        names = {"forget": "forget10", "retain": "retain90", "holdout": "holdout10"}
        by = {ours: _grouped(people[name], self.facts) for ours, name in names.items()}
        # The examples are about people who are asked about nowhere else.
        shown = [rows[0] for rows in by["retain"][:SHOTS]]
        front = "".join(_question(row).question + _question(row).answer + BETWEEN for row in shown)
        by_name = {name: [row for rows in by[name] for row in rows] for name in names}
        articles = {name: [_article(rows) for rows in by[name]] for name in names}
        return {
            "sequences": [self._sequence(i) for i in range(self.sequences)],
            **{name: [Passage("", text) for text in articles[name]] for name in names},
            "questions_forget": [_question(row) for row in by_name["forget"]],
            "questions_retain": [_question(row) for row in by_name["retain"]],
            "knowmem_forget": [_question(row, front) for row in by_name["forget"]],
            "knowmem_retain": [
                _question(row, front) for rows in by["retain"][SHOTS : SHOTS + 4] for row in rows
            ],
            "verbmem": [_halves(text) for text in articles["forget"]],
        }

    def _sequence(self, number: int) -> Passage:
        rng = random.Random(f"{self.seed}:sequence:{number}")
        words = sorted({word for group in WORDS.values() for word in group})
        # As many words as tokens at least: every word is one token or more.
        text = " ".join(rng.choice(words) for _ in range(self.length))
        return Passage("", text, limit=self.length)


def _grouped(rows: list[dict[str, Any]], size: int) -> list[list[dict[str, Any]]]:
    return [rows[i : i + size] for i in range(0, len(rows), size)]


def _article(rows: list[dict[str, Any]]) -> str:
    return " ".join(row["answer"] for row in rows)


def _question(row: dict[str, Any], front: str = "") -> Passage:
    prompt = QUESTION.replace("{question}", row["question"])
    return Passage(front + prompt, ANSWER.replace("{answer}", row["answer"]))


def _halves(text: str) -> Passage:
    words = text.split(" ")
    half = len(words) // 2
    return Passage(" ".join(words[:half]), " " + " ".join(words[half:]))
