"""Records of sequential recommendation: a history, fixed candidates, the item that came next."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from typing import Any, Literal, Protocol

from unlearn_runner.data.recommendation.interactions import Interactions
from unlearn_runner.data.rows import QA

Noise = Literal["remove_last", "replace_last", "replace_target"]
TEMPLATES = (
    "{who}, oldest first: {history}. One of these comes next: {candidates}. Which?",
    "{done} so far, in order: {history}. Choose what follows from: {candidates}.",
    "History: {history}. Candidates: {candidates}. Name the next one.",
)
MIN_HISTORY = 3
"""Items that a question tells of, at least."""
Split = Literal["pretrain", "train", "validation", "test"]


class Question(Protocol):
    """One question to a recommender, of any kind."""

    @property
    def history(self) -> tuple[Any, ...]:
        """What the user interacted with before."""
        ...

    def row(self, data: Interactions) -> QA:
        """Returns the record as a question and its answer."""
        ...

    def corrupted(self, kind: Noise, data: Interactions, seed: int) -> Question:
        """Returns the record with one thing about it wrong."""
        ...


@dataclass(frozen=True)
class Record:
    """One question to a recommender. Everything drawn for it is fixed once, with the record."""

    user: int
    history: tuple[int, ...]
    """Oldest first; no padding."""
    target: int
    candidates: tuple[int, ...]
    """The target among others that are not in the history."""
    template: int

    def row(self, data: Interactions) -> QA:
        """Returns the record as a question, its answer, and the other candidates."""
        titles = data.titles
        question = TEMPLATES[self.template].format(
            who=data.who,
            done=data.done,
            history="; ".join(titles[item] for item in self.history),
            candidates="; ".join(titles[item] for item in self.candidates),
        )
        others = tuple(titles[item] for item in self.candidates if item != self.target)
        return QA(question, titles[self.target], None, others)

    def corrupted(self, kind: Noise, data: Interactions, seed: int) -> Record:
        """Returns the record with one thing about it wrong.

        The last item of the history is gone, or is another one; or the answer is another of the
        candidates. Where the query changes answer and candidates stay, and the other way round.
        Deviation: the published code draws a wrong answer among all items and new candidates at
        every access, so that its pairs differ by more than the noise.
        """
        rng = random.Random(f"noise:{kind}:{seed}:{self.user}:{self.target}")
        if kind == "remove_last":
            return replace(self, history=self.history[:-1])
        if kind == "replace_last":
            known = {*self.history, *self.candidates}
            other = rng.choice(sorted(set(data.titles) - known))
            return replace(self, history=(*self.history[:-1], other))
        others = [item for item in self.candidates if item != self.target]
        return replace(self, target=rng.choice(others))


def split_users(
    users: list[int], shares: dict[Split, float], seed: int
) -> dict[Split, tuple[int, ...]]:
    """Returns the users of each split; no user is in two."""
    order = sorted(users)
    random.Random(f"users:{seed}").shuffle(order)
    found: dict[Split, tuple[int, ...]] = {}
    taken, total = 0, 0.0
    for name, share in shares.items():
        total += share
        end = round(total * len(order))
        found[name] = tuple(sorted(order[taken:end]))
        taken = end
    return found


def records(
    data: Interactions,
    users: tuple[int, ...],
    *,
    history: int,
    candidates: int,
    each: int,
    seed: int,
) -> list[Record]:
    """Returns the last `each` questions that users' histories give, user by user.

    Args:
        data: Titles and histories.
        users: Whose.
        history: Items of a history, at most; it has 3 at least.
        candidates: How many a question has, its answer included.
        each: Questions of a user, at most: of the last item, the one before, ...
        seed: Of candidates and templates.
    """
    found, items = [], sorted(data.titles)
    for user in users:
        seen = data.users[user]
        for end in range(max(MIN_HISTORY, len(seen) - each), len(seen)):
            rng = random.Random(f"record:{seed}:{user}:{seen[end]}")
            before, target = seen[max(0, end - history) : end], seen[end]
            known = {*before, target}
            drawn = rng.sample(items, min(len(items), candidates - 1 + len(known)))
            chosen = [target, *[item for item in drawn if item not in known][: candidates - 1]]
            rng.shuffle(chosen)
            template = rng.randrange(len(TEMPLATES))
            found.append(Record(user, before, target, tuple(chosen), template))
    return found
