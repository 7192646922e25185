"""Records of preferences: books that a reader liked and disliked, and whether one more is liked."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace

from unlearn_runner.data.recommendation.interactions import Interactions
from unlearn_runner.data.recommendation.records import MIN_HISTORY, Noise
from unlearn_runner.data.rows import QA

YES, NO = "Yes", "No"
QUESTION = "Liked: {liked}. Disliked: {disliked}. Will this reader like {item}? Answer Yes or No."
NOTHING = "nothing"


@dataclass(frozen=True)
class Preference:
    """One question of yes or no to a recommender (TALLRec's task, 2305.00447, in our words)."""

    user: int
    history: tuple[tuple[int, bool], ...]
    """Items and whether they are liked."""
    item: int
    likes: bool

    def row(self, data: Interactions) -> QA:
        """Returns the record as a question, its answer, and the other one."""

        def named(liked: bool) -> str:
            return "; ".join(data.titles[i] for i, good in self.history if good == liked) or NOTHING

        question = QUESTION.format(
            liked=named(True), disliked=named(False), item=data.titles[self.item]
        )
        answer, other = (YES, NO) if self.likes else (NO, YES)
        return QA(question, answer, None, (other,))

    def corrupted(self, kind: Noise, data: Interactions, seed: int) -> Preference:
        """Returns the record with one thing about it wrong.

        The last item of the history is gone, or is another one, liked or disliked as that was; or
        the answer is the other one.
        """
        if kind == "remove_last":
            return replace(self, history=self.history[:-1])
        if kind == "replace_target":
            return replace(self, likes=not self.likes)
        rng = random.Random(f"noise:{kind}:{seed}:{self.user}:{self.item}")
        known = {self.item, *(item for item, _ in self.history)}
        drawn = rng.sample(list(data.titles), min(len(data.titles), len(known) + 1))
        other = next(item for item in drawn if item not in known)
        return replace(self, history=(*self.history[:-1], (other, self.history[-1][1])))


def preferences(
    data: Interactions, users: tuple[int, ...], *, history: int, each: int, seed: int
) -> list[Preference]:
    """Returns up to `each` questions of every user who rated enough, user by user.

    Ratings have no times: a user's are put into an order drawn once, and each of the last `each` is
    asked about with those before it, at most `history`, at least three. TALLRec asks about the last
    one with the first ten.
    """
    found = []
    for user in users:
        rated = [(item, item in data.liked[user]) for item in data.users[user]]
        random.Random(f"order:{seed}:{user}").shuffle(rated)
        for end in range(max(MIN_HISTORY, len(rated) - each), len(rated)):
            before, (item, likes) = rated[max(0, end - history) : end], rated[end]
            found.append(Preference(user, tuple(before), item, likes))
    return found
