"""Matching of two evaluations by question and answer.

Forget quality compares distributions over rows, so it means something only when both models
answered the same rows; no other project checks this. Logs keep prompts, with the model's template
around the question, and texts that went through a tokenizer. So two rows are the same when their
true answers agree and the question of one occurs in the prompt of the other, white space apart.
A question is what is left of a prompt without the start and end that all prompts of the log share.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from unlearn_runner.data.rows import Rows
from unlearn_runner.evaluation.metrics.evidence import Texts


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
