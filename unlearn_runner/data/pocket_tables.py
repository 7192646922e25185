"""Tables of the pocket benchmark, as the files in `tables/` have them: words, topics, facts."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

FOLDER = Path(__file__).with_name("tables")


class Topic(NamedTuple):
    """One thing to ask about a person: `fields` maps each fact to its kind of value."""

    fields: dict[str, str]
    questions: list[str]
    rewordings: list[str]
    answers: list[str]
    paraphrases: list[str]


class Fact(NamedTuple):
    """One real fact as a question, with wrong options and other wordings."""

    question: str
    answer: str
    wrong: tuple[str, ...]
    rewordings: tuple[str, ...]


def _table(name: str) -> dict[str, Any]:
    return tomllib.loads((FOLDER / f"{name}.toml").read_text(encoding="utf-8"))


def _words() -> dict[str, list[str]]:
    words = {name: text.split() for name, text in _table("words").items()}
    small, tens = words["small"], words["tens"]
    return words | {"numbers": small + tens + [f"{ten}-{one}" for ten in tens for one in small[:7]]}


def _facts(relations: list[dict[str, Any]]) -> Iterator[Fact]:
    for relation in relations:
        for row in relation["rows"].strip().splitlines():
            subject, answer, *wrong = row.split("|")
            texts = (question.format(subject=subject) for question in relation["questions"])
            # A subject such as "the Colosseum" may open a sentence.
            question, *rewordings = (text[0].upper() + text[1:] for text in texts)
            yield Fact(question, answer, tuple(wrong), tuple(rewordings))


WORDS = _words()
TOPICS = {name: Topic(**topic) for name, topic in _table("topics").items()}
FACTS = {split: list(_facts(relations)) for split, relations in _table("facts").items()}
"""By split: what stands in for TOFU's real-author and world-fact questions."""
