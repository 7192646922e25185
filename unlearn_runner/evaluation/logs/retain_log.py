"""Retain log: a log's forget rows, keyed by the rows they are compared with.

Forget quality compares distributions over rows, so it means something only when both models
answered the same rows; no other project checks this. Logs keep prompts, with the model's template
around the question, and texts that went through a tokenizer. So two rows are the same when their
true answers agree and the question of one occurs in the prompt of the other, white space apart.
A question is what is left of a prompt without the start and end that all prompts of the log share.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from unlearn_runner.data.rows import Rows
from unlearn_runner.errors import DataError
from unlearn_runner.evaluation.logs.base import FORGET, Log
from unlearn_runner.evaluation.logs.read import open_log
from unlearn_runner.evaluation.metrics.evidence import Evidence, Record, Texts, ViewEvidence
from unlearn_runner.store.keys import INERT

SAME_SPLIT = "give a log of the retain model that was evaluated on the same forget rows"


@dataclass(frozen=True)
class NormalizedRow:
    """Row as it is compared; all texts without white space."""

    prompt: str
    question: str
    answer: str

    def same(self, other: NormalizedRow) -> bool:
        """Returns whether two rows ask and expect the same."""
        same_question = self.question in other.prompt or other.question in self.prompt
        return self.answer == other.answer and same_question

    def distance(self, other: NormalizedRow) -> int:
        """Returns how much longer one question is: with several alike, the nearest is meant."""
        return abs(len(self.question) - len(other.question))


def from_texts(texts: Texts) -> list[NormalizedRow]:
    """Returns the rows of a log."""
    prompts = [_compact(prompt) for prompt in texts.questions]
    start = _common_prefix(prompts)
    end = _common_prefix([prompt[start:][::-1] for prompt in prompts])
    # One prompt alone, or all alike, has no template to be seen.
    cut = slice(start, -end or None) if len(set(prompts)) > 1 else slice(None)
    answers = map(_compact, texts.answers)
    return [NormalizedRow(p, p[cut], answer) for p, answer in zip(prompts, answers, strict=True)]


def _common_prefix(texts: list[str]) -> int:
    """Returns how many characters all texts begin with."""
    low, high = min(texts), max(texts)
    return next((i for i, letter in enumerate(low) if letter != high[i]), len(low))


def from_rows(rows: Rows) -> list[NormalizedRow]:
    """Returns the rows of a split of this project's data."""
    compact = [(_compact(row.question), _compact(row.answer)) for row in rows]
    return [NormalizedRow(question, question, answer) for question, answer in compact]


def _compact(text: str) -> str:
    """Returns a text without white space: decoding a tokenized text moves it."""
    return "".join(text.split())


@dataclass(frozen=True)
class Match:
    """Rows that two evaluations share."""

    mine: int
    theirs: int
    pairs: tuple[tuple[int, int], ...]
    """Row here, row there; each row at most once."""

    @property
    def same_split(self) -> bool:
        """Whether one holds all rows of the other, and the other is not a larger split.

        An evaluation cut after its first rows (TOFU's own stops at 300) is still one of the same
        split. TOFU's smaller forget splits are the *last* rows of the larger ones.
        """
        shared, large = len(self.pairs), max(self.mine, self.theirs)
        if not shared or shared < min(self.mine, self.theirs):
            return False
        side = 0 if self.mine == large else 1
        first = {pair[side] for pair in self.pairs} == set(range(shared))
        return first or 2 * shared > large

    def keys(self) -> list[int]:
        """Returns, for each row there, the row here that it is; -1 for none."""
        by_row = {theirs: mine for mine, theirs in self.pairs}
        return [by_row.get(row, -1) for row in range(self.theirs)]


def match(mine: Sequence[NormalizedRow], theirs: Sequence[NormalizedRow]) -> Match:
    """Pairs equal rows, in any order; rows that occur twice are paired one by one."""
    waiting: defaultdict[str, list[int]] = defaultdict(list)
    for place, row in enumerate(theirs):
        waiting[row.answer].append(place)
    pairs: list[tuple[int, int]] = []
    for place, row in enumerate(mine):
        found = [other for other in waiting[row.answer] if row.same(theirs[other])]
        if found:
            best = min(found, key=lambda other: row.distance(theirs[other]))
            waiting[row.answer].remove(best)
            pairs.append((place, best))
    return Match(len(mine), len(theirs), tuple(pairs))


def against(model: Log, retain: Log, only_shared: bool) -> tuple[Evidence, Match | None]:
    """Returns the retain log's forget view, keyed by the model log's rows, and what they share.

    Beside it views that have no texts to tell rows by, unseen rows and all of MUSE's: their rows
    are compared in the order that both logs have them in.

    Args:
        model: The log that is scored.
        retain: The retain model's log.
        only_shared: Compare logs of different splits by the rows they share.

    Raises:
        DataError: One is malformed or has no forget rows to compare, or they are of different
            splits; with `only_shared` only when no row is shared.
    """
    if not (model.has_texts and retain.has_texts):
        return _in_order(model, retain)
    mine, theirs = comparable(model), comparable(retain)
    found = match(_normalized(mine), _normalized(theirs))
    if not found.same_split and not (only_shared and found.pairs):
        fix = f"{SAME_SPLIT}, or add --matched to compare the shared rows alone"
        problem = _other_split(retain.path, found, str(model.path))
        raise DataError(problem, fix if found.pairs else SAME_SPLIT)
    return Evidence({FORGET: theirs.keyed(found.keys()), **_unseen(retain)}), found


def _in_order(model: Log, retain: Log) -> tuple[Evidence, None]:
    if model.format != retain.format:
        raise DataError(
            f"{retain.path} is a log in the {retain.format} format, {model.path} in {model.format}",
            "give the retain model's log of the same benchmark",
        )
    mine, theirs = model.evidence().views, retain.evidence().views
    for name in mine.keys() & theirs.keys():
        if mine[name].rows != theirs[name].rows:
            raise DataError(
                f"{retain.path} has {theirs[name].rows} rows of {name}, {model.path} has "
                f"{mine[name].rows}",
                SAME_SPLIT,
            )
    return Evidence(theirs), None


def _unseen(log: Log) -> dict[str, ViewEvidence]:
    return {name: log.view(name) for name, view in log.views.items() if view.goal == "unseen"}


def comparable(log: Log) -> ViewEvidence:
    """Returns the forget view of a log that has what forget quality needs."""
    view = log.view(FORGET) if log.has_texts else ViewEvidence(FORGET, "forget", "answer", Record())
    if not view.has(view.right_role, "perturbed") or view.record.texts is None:
        raise DataError(
            f"{log.path}: the log lacks what forget quality compares: losses of the forget rows' "
            f"{view.right_role} and perturbed answers, and the rows' texts",
            "score it without --retain, or evaluate again with all of TOFU's metrics",
        )
    return view


def _normalized(view: ViewEvidence) -> list[NormalizedRow]:
    assert view.record.texts is not None
    return from_texts(view.record.texts)


def _other_split(path: Path, found: Match, whose: str) -> str:
    shared = f"{len(found.pairs)} of them are the same" if found.pairs else "no row is the same"
    return (
        f"{path} is a log of another forget split: it has {found.theirs} forget rows, "
        f"{whose} has {found.mine}, and {shared}"
    )


@dataclass(frozen=True)
class RetainLog:
    """Evaluation log of a retain-only model, in the model's place."""

    path: Path = field(metadata=INERT)
    digest: str
    rows: Rows
    """Rows of the view that forget quality looks at, which the log's rows are matched with."""
    view: str
    """Its name in the benchmark."""

    def matched(self) -> Evidence:
        """Returns its forget rows as the evidence of the view, keyed by the position in `rows`.

        Unseen rows that it recorded are with them, in their order.

        The log's order may differ, and the log or the view may stop early, so forget quality
        compares the rows that both have.

        Raises:
            DataError: The log is malformed, has no forget rows to compare, or is of another split.
        """
        log = open_log(self.path)
        theirs = comparable(log)
        found = match(from_rows(self.rows), _normalized(theirs))
        if not found.same_split:
            raise DataError(_other_split(self.path, found, self.rows.name), SAME_SPLIT)
        forget = replace(theirs.keyed(found.keys()), name=self.view)
        return Evidence({self.view: forget, **_unseen(log)})

    def everything(self) -> Evidence:
        """Returns all it recorded."""
        return open_log(self.path).evidence()
