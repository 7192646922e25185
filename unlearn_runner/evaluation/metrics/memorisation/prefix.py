"""PS, prefix-based extraction: how much of an answer must be given for a model to write the rest.

Wang et al. 2025 (G-effect, arXiv 2502.19301), as their code has it: 1 - k/T, with k the least
number of the answer's T tokens behind which the greedy continuation is the rest of it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from unlearn_runner.evaluation.metrics.base import ViewMetric, known_mean
from unlearn_runner.evaluation.metrics.evidence import Continuation, Floats, ViewEvidence
from unlearn_runner.evaluation.metrics.memorisation.extraction import extraction_strength
from unlearn_runner.evaluation.schema import Goal

Match = Literal["exact", "similar"]
Form = Literal["fixed", "published"]


def shortest(hit: Callable[[int], bool], length: int, form: Form = "fixed") -> int:
    """Returns how many tokens must be given, of so many; all where no fewer do.

    Args:
        hit: Whether a model writes the rest behind so many tokens.
        length: Tokens of the answer.
        form: `fixed` takes the least; `published` looks for it by halves, and so may miss one below
            a number that is not enough.
    """
    if form == "fixed":
        return next((given for given in range(length) if hit(given)), length)
    low, high, at = 0, length, -1
    while (middle := (low + high) // 2) != at:
        at = middle
        low, high = (low, at) if hit(at) else (at, high)
    return high


def longest_common(a: Sequence[int], b: Sequence[int]) -> int:
    """Returns the length of the longest common subsequence."""
    row = [0] * (len(b) + 1)
    for token in a:
        before = 0
        for i, other in enumerate(b, 1):
            before, row[i] = row[i], before + 1 if token == other else max(row[i], row[i - 1])
    return row[-1]


def prefix_strength(
    row: Sequence[Continuation], match: Match = "exact", form: Form = "fixed"
) -> float:
    """Returns 1 - k/T of a row; NaN for one without tokens.

    The end of sequence, the last token of each continuation, is left out.

    Args:
        row: What was written behind no token of the answer, one, two, ...
        match: `exact` wants the rest token for token; `similar` a common subsequence of at least
            half of what was written.
        form: `published` is the code of the paper: the search is by halves, and a continuation that
            ends early, be it at once, counts as far as it goes.
    """
    length = len(row) - 1

    def hit(given: int) -> bool:
        # What is written is as long as what is expected, or ends with the end of sequence.
        written, rest = (list(tokens)[:-1] for tokens in row[given])
        if form == "fixed" and not written:
            return False
        if match == "similar":
            return 2 * longest_common(written, rest) >= len(written)
        return written == (rest if form == "fixed" else rest[: len(written)])

    return 1 - shortest(hit, length, form) / length if length > 0 else float("nan")


@dataclass(frozen=True)
class PrefixStrength(ViewMetric):
    """Mean PS. `exact` in its `fixed` form is extraction strength, of log-probabilities alone.

    A greedy continuation is the rest of the answer where each of its tokens is the likeliest behind
    those before it. Other forms read the `prefixes` probe. Deviation from the published code: the
    model's own template in place of a fixed one, an answer's own tokens, and all rows of the view
    in place of fifty.
    """

    match: Match = "exact"
    form: Form = "fixed"

    def of_rows(self, view: ViewEvidence) -> Floats | None:
        """Returns each row's PS."""
        if self.match == "exact" and self.form == "fixed" and view.record.tokens is not None:
            return extraction_strength(view.record.tokens.tokens)
        found = view.record.continuations
        if found is None:
            return None
        return np.array([prefix_strength(row, self.match, self.form) for row in found])

    def of_view(self, view: ViewEvidence) -> float | None:
        """Returns the mean over rows that have one."""
        return known_mean(self.of_rows(view))

    def higher_is_better(self, score: str, goal: Goal | None) -> bool:
        """Returns false on rows to be forgotten."""
        return goal != "forget"
