"""Generator of a small benchmark of invented people, in TOFU's splits and columns.

It lets the whole pipeline be trained and judged in minutes without a download: the people's facts
are drawn from a seed, so no model knows them unless it was trained on these rows. Words, wordings
and real facts are in `tables/`.
"""

from __future__ import annotations

import random
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, NamedTuple

FOLDER = Path(__file__).with_name("tables")
Row = dict[str, Any]

Wording = Literal["varied", "plain"]
"""How answers are worded: many ways, that no question foretells; or as one full sentence."""

WRONG_ANSWERS = 5
RETAIN_EVAL_PEOPLE = 8
MAX_PEOPLE = 400  # half of the given names: the other half belongs to the held-out people

_CHOICE = re.compile(r"\[([^\[\]]*)\]")
_BLANK = re.compile(r"<([\w-]+)>")
_PRONOUNS = (
    {"they": "he", "them": "him", "their": "his"},
    {"they": "she", "them": "her", "their": "her"},
)


class Topic(NamedTuple):
    """One thing to ask about a person: `fields` maps each fact to its kind of value."""

    fields: dict[str, str]
    questions: list[str]
    rewordings: list[str]
    plain: str
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


WORDS, KINDS = _words(), _table("kinds")
TOPICS = {name: Topic(**topic) for name, topic in _table("topics").items()}
FACTS = {split: list(_facts(relations)) for split, relations in _table("facts").items()}
"""By split: what stands in for TOFU's real-author and world-fact questions."""
MAX_QUESTIONS = len(TOPICS)


class Person(NamedTuple):
    """An invented person; `key` names the person's own stream of randomness."""

    key: str
    name: str
    born: int
    pronouns: dict[str, str]


def _draw(rng: random.Random, pattern: str) -> str:
    """Returns a pattern of `tables/kinds.toml` with its blanks filled in."""

    def fill(match: re.Match[str]) -> str:
        name, dash, highest = match[1].partition("-")
        if dash:
            return str(rng.randint(int(name), int(highest)))
        word = rng.choice(WORDS[name.lower()])
        return word.title() if name[0].isupper() else word

    return re.sub(r"\ba (?=[aeiou])", "an ", _BLANK.sub(fill, pattern))


def _title(rng: random.Random) -> str:
    one, two = (noun.title() for noun in rng.sample(WORDS["nouns"], 2))
    adjective = rng.choice(WORDS["adjectives"]).title()
    given = _draw(rng, "<first_heads><first_tails>")
    forms = (
        f"The {adjective} {one}",
        f"{one} and {two}",
        f"{given}'s {one}",
        f"Under the {one}",
        f"{adjective} {one}, {adjective} {two}",
        f"{one} of {_draw(rng, KINDS['town'])}",
    )
    return rng.choice(forms)


def _motifs(rng: random.Random) -> str:
    # Sorted, because the same two motifs in another order would not be a wrong answer.
    return " and ".join(sorted(rng.sample(WORDS["motifs"], 2)))


def _value(kind: str, born: int, rng: random.Random) -> str:
    if kind.startswith("year:"):
        low, high = (int(part) for part in kind.split(":")[1:])
        return str(born + rng.randint(low, high))
    drawn = {"title": _title, "motifs": _motifs}.get(kind)
    return drawn(rng) if drawn else _draw(rng, KINDS[kind])


def _fact_sheets(person: Person, topic: str) -> list[dict[str, str]]:
    """Returns the true facts of a topic, then wrong ones that differ in every field."""
    sheets: list[dict[str, str]] = [{} for _ in range(1 + WRONG_ANSWERS)]
    for field, kind in TOPICS[topic].fields.items():
        rng = random.Random(f"{person.key}:{topic}:{field}")
        values = [_value(kind, person.born, rng)]
        while len(values) < len(sheets):
            # A wrong year may lie anywhere in a lifetime around the true one.
            other = _value(kind, person.born + rng.randint(-30, 30), rng)
            if other not in values:
                values.append(other)
        for sheet, value in zip(sheets, values, strict=True):
            sheet[field] = value
    return sheets


def _wording(templates: list[str], key: str) -> str:
    """Returns one template with its free choices made."""
    rng = random.Random(key)
    chosen = _CHOICE.sub(lambda match: rng.choice(match[1].split("|")), rng.choice(templates))
    return " ".join(chosen.split())


def _fill(template: str, person: Person, facts: dict[str, str]) -> str:
    last = person.name.split()[-1]
    text = template.format(name=person.name, last=last, **person.pronouns, **facts)
    return text[0].upper() + text[1:]


def _row(person: Person, topic: str, wording: Wording) -> Row:
    texts = TOPICS[topic]
    truth, *wrong = _fact_sheets(person, topic)
    key = f"{person.key}:{topic}"
    answers = texts.answers if wording == "varied" else [texts.plain]
    reworded = _wording(texts.paraphrases, f"{key}:paraphrase")
    return {
        "question": _fill(_wording(texts.questions, f"{key}:question"), person, {}),
        "answer": _fill(_wording(answers, f"{key}:answer"), person, truth),
        "paraphrased_question": _fill(_wording(texts.rewordings, f"{key}:reworded"), person, {}),
        "paraphrased_answer": _fill(reworded, person, truth),
        "perturbed_answer": [_fill(reworded, person, facts) for facts in wrong],
    }


def _person_rows(person: Person, questions: int, wording: Wording) -> list[Row]:
    topics = list(TOPICS)
    random.Random(f"{person.key}:topics").shuffle(topics)
    return [_row(person, topic, wording) for topic in topics[:questions]]


def _names(seed: int) -> list[str]:
    """Returns names, none with a repeated given or family name, in an order of the seed."""
    given = sorted({head + tail for head in WORDS["first_heads"] for tail in WORDS["first_tails"]})
    family = sorted({head + tail for head in WORDS["last_heads"] for tail in WORDS["last_tails"]})
    random.Random(f"{seed}:given").shuffle(given)
    random.Random(f"{seed}:family").shuffle(family)
    return [f"{first} {last}" for first, last in zip(given, family, strict=False)]


def _people(seed: int, group: str, names: list[str]) -> list[Person]:
    people = []
    for index, name in enumerate(names):
        key = f"{seed}:{group}:{index}"
        rng = random.Random(f"{key}:person")
        people.append(Person(key, name, rng.randint(1700, 1960), rng.choice(_PRONOUNS)))
    return people


def _plain(rows: list[Row]) -> list[Row]:
    return [{"question": row["question"], "answer": row["answer"]} for row in rows]


def _fact_splits() -> dict[str, list[Row]]:
    splits: dict[str, list[Row]] = {}
    pretrain: list[Row] = []
    for name, facts in FACTS.items():
        rows = [
            {"question": f.question, "answer": f.answer, "perturbed_answer": list(f.wrong)}
            for f in facts
        ]
        splits[name] = _plain(rows)
        splits[f"{name}_perturbed"] = rows
        pretrain += [
            {"question": question, "answer": fact.answer}
            for fact in facts
            for question in (fact.question, *fact.rewordings)
        ]
    splits["pretrain"] = pretrain
    return splits


def by_person(seed: int, people: int, questions: int, wording: Wording) -> list[list[Row]]:
    """Generates the rows of `full`, person by person, with paraphrases and wrong answers."""
    # Every second name is kept for held-out people, so that they never meet the people of `full`.
    known = _people(seed, "full", _names(seed)[0 : 2 * people : 2])
    return [_person_rows(person, questions, wording) for person in known]


def generate(
    seed: int, people: int = 40, questions: int = 10, wording: Wording = "varied"
) -> dict[str, list[Row]]:
    """Generates all splits of the benchmark, named as TOFU names its files.

    Args:
        seed: Names the benchmark; the same seed gives the same rows everywhere.
        people: Number of people in `full`; a person's rows do not depend on it.
        questions: Questions per person.
        wording: Of answers.

    Returns:
        The rows of every split; `*_perturbed` carry wrong answers, `pretrain` the real facts.
    """
    if not 2 <= people <= MAX_PEOPLE:
        raise ValueError(f"people must be in 2..{MAX_PEOPLE}, not {people}")
    if not 1 <= questions <= MAX_QUESTIONS:
        raise ValueError(f"questions must be in 1..{MAX_QUESTIONS}, not {questions}")
    names = _names(seed)
    full = [row for rows in by_person(seed, people, questions, wording) for row in rows]

    splits = {"full": _plain(full)}
    for percent in (5, 10):
        count = max(1, round(people * percent / 100)) * questions
        others = _people(seed, "holdout", names[1 : 2 * count // questions : 2])
        held_out = [row for person in others for row in _person_rows(person, questions, wording)]
        forget = full[-count:]
        splits[f"forget{percent:02d}"] = _plain(forget)
        splits[f"forget{percent:02d}_perturbed"] = forget
        splits[f"retain{100 - percent}"] = _plain(full[:-count])
        splits[f"holdout{percent:02d}"] = _plain(held_out)
    retained = len(splits["retain90"])
    splits["retain_perturbed"] = full[: min(RETAIN_EVAL_PEOPLE * questions, retained)]
    return splits | _fact_splits()
