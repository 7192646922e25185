"""Checks of rows as they are opened: a malformed one is named before anything is computed."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from unlearn_runner.data.records import AGAIN, ROW, Placed
from unlearn_runner.data.rows import QA, FactQA
from unlearn_runner.errors import DataError, listed, nearest

COLUMNS = (
    *("question", "answer", "paraphrased_answer", "perturbed_answer", "paraphrased_question"),
    "entity",
)


def checked_split(records: Iterable[Placed]) -> tuple[QA, ...]:
    """Returns the rows of a split, each checked, and checked against each other.

    Raises:
        DataError: If a row is malformed, repeats another, or lacks what others have.
    """
    rows: list[QA] = []
    places: dict[tuple[str, str], str] = {}
    for where, record in records:
        row = checked(record, where)
        # TOFU asks one question of two authors: only question and answer together are a row.
        first = places.setdefault((row.question, row.answer), where)
        if first != where:
            raise DataError(
                f"{where} repeats the question and answer of {first}", "remove one of the two"
            )
        for name, there, expected in (
            ("paraphrased_answer", row.paraphrased_answer, rows and rows[0].paraphrased_answer),
            ("perturbed_answer", row.perturbed_answers, rows and rows[0].perturbed_answers),
        ):
            if rows and bool(there) != bool(expected):
                other = next(iter(places.values()))
                lacks, has = (other, where) if there else (where, other)
                raise DataError(
                    f"{lacks} has no {name!r}, but {has} has: all rows or none must",
                    f"add it to every row, or {AGAIN}",
                )
        rows.append(row)
    return tuple(rows)


def checked(record: object, where: str) -> QA:
    """Returns the row that a record of TOFU's schema describes.

    Raises:
        DataError: If a key is missing, empty or of the wrong type, or a wrong answer is right.
    """
    if not isinstance(record, Mapping):
        raise DataError(f"{where} is not a JSON object with question and answer", ROW)
    for name in ("question", "answer"):
        if name not in record:
            raise _lacking(name, record, where)
        if not isinstance(record[name], str) or not record[name].strip():
            raise DataError(
                f"{where} has an empty or non-text {name!r}",
                f"a text under {name!r}, or remove the row",
            )
    wrong = record.get("perturbed_answer", [])
    if not isinstance(wrong, list) or not all(isinstance(w, str) and w.strip() for w in wrong):
        raise DataError(
            f"{where}: 'perturbed_answer' must be a list of non-empty texts",
            '"perturbed_answer": ["a wrong answer", "another"]',
        )
    for name in ("paraphrased_answer", "paraphrased_question"):
        text = record.get(name)
        if text is not None and (not isinstance(text, str) or not text.strip()):
            what = name.removeprefix("paraphrased_")
            raise DataError(
                f"{where} has an empty or non-text {name!r}",
                f'"{name}": "the {what} in other words"',
            )
    entity = record.get("entity")
    if entity is not None and not (
        isinstance(entity, str) and entity and entity in record["answer"]
    ):
        raise DataError(
            f"{where}: 'entity' must be a part of the answer, letter by letter",
            '"answer": "He is a civil engineer.", "entity": "civil engineer"; or remove it',
        )
    texts = (
        record["question"],
        record["answer"],
        record.get("paraphrased_answer"),
        tuple(wrong),
        record.get("paraphrased_question"),
    )
    row = QA(*texts) if entity is None else FactQA(*texts, entity=entity)
    _check_answers(row, where)
    return row


def _lacking(name: str, record: Mapping[str, object], where: str) -> DataError:
    close = nearest(name, record)
    # Pasted into a shell, so nothing that a file may hold beyond a plain name.
    known = re.fullmatch(r"[A-Za-z_]\w*", close, re.ASCII)
    advice = "name its column in benchmark.source.columns"
    if known:
        advice = f"'benchmark.source.columns={{{name}:{close}}}' where it has another name"
    there = listed((repr(column[:40]) for column in record), 8) or "nothing"
    return DataError(
        f"{where} has no {name!r}; it has {there}",
        f"{advice}, or remove the row",
    )


def _check_answers(row: QA, where: str) -> None:
    """Refuses answers that a comparison of right and wrong ones could not tell apart."""
    seen: dict[str, str] = {}
    right = [("answer", row.answer), ("paraphrased_answer", row.paraphrased_answer or "")]
    reworded = row.paraphrased_question or ""
    for text in (row.question, reworded, *(text for _, text in right), *row.perturbed_answers):
        if any("\ud800" <= character <= "\udfff" for character in text):
            raise DataError(
                f"{where} holds half of a surrogate pair, which is no text",
                "write the character itself in UTF-8, or both halves",
            )
    for name, text in right:
        seen.setdefault(text.strip(), f"the {name!r}")
    for number, text in enumerate(row.perturbed_answers, 1):
        same = seen.setdefault(text.strip(), f"number {number}")
        if same != f"number {number}":
            raise DataError(
                f"{where}: 'perturbed_answer' number {number} is the same as {same}",
                f"another wrong answer as number {number}, or remove it",
            )
