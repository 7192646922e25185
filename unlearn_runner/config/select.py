"""How a sweep's best setting is told from the others: the criterion, and who may not win.

Only scores of the validation part enter. What they are compared with is the target, the model that
unlearning begins from; the retain-only model is read by one criterion alone, and only where asked
for.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Ge, Gt, Le, Lt

from unlearn_runner.errors import ConfigError
from unlearn_runner.evaluation.metrics.scores import collapsed

Scores = Mapping[str, float | None]
UTILITY, FORGET, STATISTIC = "model_utility", "forget.probability", "forget_quality_ks"

RANKED = {
    "forgetting": (FORGET, True),
    "harmonic": (f"harmonic mean of {UTILITY} / target's and 1 - {FORGET}", False),
    # The p-value falls as its statistic rises, but its mean over seeds would be the luckiest one's.
    "forget_quality": (STATISTIC, True),
}
"""What each criterion ranks settings by, and whether less is better."""


@dataclass(frozen=True)
class CriterionValue:
    """What a criterion says of one model on one part."""

    value: float
    """What settings are ranked by."""
    kept: float
    """Its utility as a share of its target's."""


@dataclass(frozen=True)
class Select:
    """Which setting of a sweep is chosen, and on which rows."""

    criterion: Literal["forgetting", "harmonic", "forget_quality"] | None = None
    """forgetting: the least `forget.probability`; harmonic: the highest harmonic mean of the share
    of the target's utility (at most 1) and of 1 - `forget.probability`; forget_quality: the least
    KS statistic against the retain-only model (the highest p-value). Null selects nothing."""
    keep: Annotated[float, Ge(0), Le(1)] = 0.9
    """Share of the target's model utility that a setting must keep, whatever the criterion."""
    share: Annotated[float, Gt(0), Lt(1)] = 0.5
    """Of the units of every view that go into the validation part; the rest is the test part."""
    by: Literal["person", "row"] = "person"
    """What is never divided: all rows of a person (an author), or a row."""
    seed: Annotated[int, Ge(0), Le(2**32 - 1)] = 0
    """Of the division."""
    peek: bool = False
    """Allows a criterion that looks at the retain-only model, which is not there in earnest."""

    def __post_init__(self) -> None:
        if self.criterion == "forget_quality" and not self.peek:
            raise ConfigError(
                "sweep.select.criterion=forget_quality selects by the retain-only model, which is "
                "what unlearning has to do without; allowed as a choice that is stated",
                "sweep.select.peek=true, or sweep.select.criterion=forgetting or harmonic",
            )

    @property
    def needed(self) -> tuple[str, ...]:
        """The scores that the criterion reads."""
        return (UTILITY, STATISTIC if self.criterion == "forget_quality" else FORGET)

    @property
    def ranked(self) -> str:
        """What settings are ranked by."""
        return RANKED[self.criterion or "forgetting"][0]

    @property
    def lower(self) -> bool:
        """Whether less of it is better."""
        return RANKED[self.criterion or "forgetting"][1]

    @property
    def stated(self) -> str:
        """The criterion in words."""
        best = "least" if self.lower else "highest"
        bar = f", keeping {self.keep:g} of the target's {UTILITY}" if self.keep else ""
        return f"{best} {self.ranked} on the validation part{bar}"

    def worth(self, scores: Scores, target: Scores) -> CriterionValue | str:
        """Returns what the criterion says of one model, or why it cannot win whatever its keep.

        The scores are the unlearned model's and its target's, on the same part.
        """
        utility, other = (scores.get(name) for name in self.needed)
        whole = target.get(UTILITY)
        if utility is None or other is None or whole is None:
            return "a score that the criterion needs does not exist"
        if whole == 0:
            return f"the target's {UTILITY} is 0 on the validation part: there is nothing to keep"
        if collapsed(utility, whole):
            return "collapsed on the validation part"
        kept = utility / whole
        if self.criterion == "harmonic":
            one, two = min(1.0, kept), 1.0 - other
            other = 2 * one * two / (one + two) if one + two > 0 else 0.0
        return CriterionValue(other, kept)
