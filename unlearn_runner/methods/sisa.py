"""SISA: retraining made cheaper by having trained several models, each on a shard of the rows."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Annotated, ClassVar

from annotated_types import Ge, Le

from unlearn_runner.errors import ConfigError
from unlearn_runner.methods.base import Method, Term


@dataclass(frozen=True)
class SISA(Method):
    """Trains the target's base anew, by the target's recipe, on one shard of the rows as wished.

    Source: Bourtoule et al. 2021. Rows are dealt to shards before any request, by `target.seed`; a
    request trains those shards anew that hold its rows. A run is one shard's model, which is no
    model of SISA's yet: its prediction is the mean of the shards' probabilities, token by token, as
    `scripts/influence_table.py` takes it. Deviation: no slices within a shard.
    """

    one_shot: ClassVar[bool] = True
    retrains: ClassVar[bool] = True

    shards: Annotated[int, Ge(2), Le(1000)] = 5
    shard: Annotated[int, Ge(0)] = 0
    """Which of them this run trains, from 0 on; a sweep makes all: `-m method.shard=0,1,2,3,4`."""

    def __post_init__(self) -> None:
        if self.shard >= self.shards:
            raise ConfigError(
                f"method.shard={self.shard}: there are method.shards={self.shards}, from 0 on",
                f"method.shard={self.shards - 1}",
            )

    def terms(self) -> tuple[Term, ...]:
        """Returns nothing: it minimises what the target's fine-tune minimises."""
        return ()

    def places(self, rows: int, seed: int) -> list[int]:
        """Returns which of so many training rows the shard holds, in their order."""
        order = list(range(rows))
        random.Random(f"shards:{seed}").shuffle(order)
        return sorted(order[self.shard :: self.shards])
