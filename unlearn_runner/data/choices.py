"""Multiple-choice rows: from files of question, choices and answer, or from wrong answers."""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

from annotated_types import Ge, Le

from unlearn_runner.data.records import AGAIN, Placed, read_records
from unlearn_runner.data.rows import QA, ChoiceQA, Row, Rows
from unlearn_runner.data.sources import Files, Source
from unlearn_runner.errors import DataError, listed

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
ROW = '{"question": "...", "choices": ["...", "..."], "answer": 0}'


@dataclass(frozen=True)
class Wording:
    """How a question and its choices become text, and what of it is scored.

    The default is Hendrycks et al. 2021 as lm-evaluation-harness has it: letters are scored, not
    the choices themselves. Both texts may hold {subject}, {question}, {options}; the continuation
    also {letter} and {choice}.
    """

    prompt: str = (
        "The following are multiple choice questions (with answers) about {subject}.\n\n"
        "{question}\n{options}\nAnswer:"
    )
    continuation: str = " {letter}"

    def row(self, qa: Row, choices: list[str], correct: int, subject: str) -> ChoiceQA:
        """Returns a question with the texts that are scored."""
        options = "\n".join(f"{a}. {text}" for a, text in zip(LETTERS, choices, strict=False))
        words = {"subject": subject, "question": qa.question.strip(), "options": options}
        texts = [
            _filled(self.continuation, {**words, "letter": letter, "choice": choice})
            for letter, choice in zip(LETTERS, choices, strict=False)
        ]
        context = _filled(self.prompt, words)
        return ChoiceQA(
            qa.question, qa.answer, context=context, choices=tuple(texts), correct=correct
        )


def _filled(template: str, words: Mapping[str, str]) -> str:
    """Returns the template with its blanks filled once; a text may hold braces of its own."""
    parts = template.split("{")
    found = [parts[0]]
    for part in parts[1:]:
        name, closed, rest = part.partition("}")
        found.append(words[name] + rest if closed and name in words else "{" + part)
    return "".join(found)


@dataclass(frozen=True)
class ChoiceSource(ABC):
    """Base class of sources of multiple-choice rows."""

    @abstractmethod
    def read(self, split: str, wording: Wording) -> Rows:
        """Returns the rows of `split`, each a `ChoiceQA`.

        Raises:
            DataError: If the split does not exist or a row is malformed.
        """

    @abstractmethod
    def in_folder(self, folder: str) -> ChoiceSource:
        """Returns the source with its files in a folder.

        Raises:
            ConfigError: If it reads no files.
        """


@dataclass(frozen=True)
class ChoiceFiles(ChoiceSource):
    """Rows from files: JSON, JSON lines, CSV or Parquet, with question, choices, answer index."""

    data_dir: str | None = None
    """Folder of `<split>.json`, `.jsonl`, `.csv` or `.parquet`."""
    files: dict[str, str] = field(default_factory=dict)
    """Paths by split, of files that lie elsewhere or have other names."""
    subjects: dict[str, str] = field(default_factory=dict)
    """What the rows of a split are about, where they have no column `subject`."""

    def read(self, split: str, wording: Wording) -> Rows:
        """Returns the rows of `split`, checked."""
        path = self._find(split)
        subject = self.subjects.get(split)
        rows = [_checked(placed, wording, subject) for placed in read_records(path)]
        return Rows(split, tuple(rows))

    def in_folder(self, folder: str) -> ChoiceSource:
        """Returns the source with its files in `folder`."""
        return replace(self, data_dir=folder)

    def _find(self, split: str) -> Path:
        if split not in self.files:
            if self.data_dir is None:
                raise DataError(
                    f"no file is named for {split}: benchmark.source.files.{split} or "
                    "benchmark.data_dir, a folder that holds it",
                    f"benchmark.source.files.{split}=PATH",
                )
            return Files(self.data_dir).find(split)[0]
        path = Path(self.files[split]).expanduser()
        if not path.is_file():
            raise DataError(
                f"benchmark.source.files.{split}={path} is no file (seen from {Path.cwd()})",
                "a .json, .jsonl, .csv or .parquet file with question, choices and answer",
            )
        return path


def _checked(placed: Placed, wording: Wording, subject: str | None) -> ChoiceQA:
    where, record = placed
    if not isinstance(record, Mapping):
        raise DataError(f"{where} is not an object with question, choices and answer", ROW)
    for name in ("question", "choices", "answer"):
        if name not in record:
            raise DataError(f"{where} has no {name!r}; it has {listed(map(repr, record), 8)}", ROW)
    question, choices, answer = (record[name] for name in ("question", "choices", "answer"))
    if not isinstance(question, str) or not question.strip():
        raise DataError(f"{where} has an empty or non-text 'question'", ROW)
    if not isinstance(choices, list) or not 2 <= len(choices) <= len(LETTERS):
        raise DataError(f"{where}: 'choices' must be a list of 2 to {len(LETTERS)} texts", ROW)
    if any(not isinstance(choice, str) for choice in choices):
        raise DataError(f"{where}: 'choices' holds what is no text", ROW)
    correct = _index(answer)
    if correct is None or not 0 <= correct < len(choices):
        raise DataError(
            f"{where}: 'answer' must be the index of a choice, 0 to {len(choices) - 1}; it is "
            f"{str(answer)[:20]!r}",
            f"{ROW}, or {AGAIN}",
        )
    about = subject if subject is not None else str(record.get("subject", "")).replace("_", " ")
    if not about and "{subject}" in wording.prompt + wording.continuation:
        raise DataError(
            f"{where} has no 'subject', and the prompt names one",
            "benchmark.source.subjects.SPLIT=biology, or a benchmark.wording.prompt without it",
        )
    return wording.row(QA(question, choices[correct]), choices, correct, about)


def _index(answer: Any) -> int | None:
    """Returns a whole number, of CSV too; none for anything else."""
    if isinstance(answer, str) and answer.isascii() and answer.isdigit():
        return int(answer)
    return answer if isinstance(answer, int) and not isinstance(answer, bool) else None


@dataclass(frozen=True)
class FromAnswers(ChoiceSource):
    """Choices made of the answer, paraphrased where it can be, and the perturbed answers."""

    source: Source
    choices: Annotated[int, Ge(2), Le(26)] = 4
    """Choices per question, or as many as there are answers."""
    seed: Annotated[int, Ge(0)] = 0
    """Of their order."""

    def read(self, split: str, wording: Wording) -> Rows:
        """Returns the rows of `split`, which must have wrong answers."""
        found = []
        for i, qa in enumerate(self.source.read(split)):
            if not qa.perturbed_answers:
                raise DataError(
                    f"{split} row {i + 1} has no 'perturbed_answer' to choose between",
                    "name a split whose rows have wrong answers",
                )
            # Perturbed answers are worded as the paraphrase: else the wording would give it away.
            right = qa.paraphrased_answer or qa.answer
            texts = [right, *qa.perturbed_answers[: self.choices - 1]]
            random.Random(f"{self.seed}:{split}:{i}").shuffle(texts)
            found.append(wording.row(qa, texts, texts.index(right), ""))
        return Rows(split, tuple(found))

    def in_folder(self, folder: str) -> ChoiceSource:
        """Returns the source of rows with its files in `folder`."""
        return replace(self, source=self.source.in_folder(folder))
