"""Stop rules: bounds on scores along the way that end a training before its last step."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from unlearn_runner.errors import ConfigError, UserError, listed


@dataclass(frozen=True)
class StopRule:
    """A score, and the bound that ends training when the score is beyond it, strictly."""

    metric: str
    """Name of the score, as results.json has it: forget.ma."""
    below: float | str | None = None
    """A number, or the name of a score of the model that unlearning starts from: unseen.ma, what
    text that it never saw comes to."""
    above: float | str | None = None
    """The same, from the other side."""

    def __post_init__(self) -> None:
        if (self.below is None) == (self.above is None):
            raise ConfigError(
                f"train.stop: {self.metric} needs one bound",
                f"'train.stop={{metric: {self.metric}, below: 0.3}}' or above in place of below",
            )

    @property
    def bound(self) -> float | str:
        """Whichever of the two is given."""
        return self.below if self.below is not None else self.above or 0.0

    def limit(self, start: Mapping[str, float | None]) -> float:
        """Returns the bound as a number.

        Args:
            start: Scores of the model that unlearning starts from.
        """
        if not isinstance(self.bound, str):
            return self.bound
        return known(start, self.bound, "the model that unlearning starts from has no score")

    def holds(self, scores: Mapping[str, float | None], start: Mapping[str, float | None]) -> bool:
        """Returns whether the score is beyond its bound."""
        value = known(scores, self.metric, "there is no score along the way named")
        limit = self.limit(start)
        return value < limit if self.below is not None else value > limit


def known(
    scores: Mapping[str, float | None], name: str, problem: str, key: str = "train.stop"
) -> float:
    """Returns a score that must exist.

    Raises:
        UserError: With the scores that do.
    """
    value = scores.get(name)
    if value is None:
        there = listed([other for other, score in scores.items() if score is not None], 12)
        raise UserError(f"{key}: {problem} {name}; there are {there}", "one of these")
    return value
