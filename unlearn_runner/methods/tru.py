"""Task vector rectified unlearning (TRU): a reconstruction."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from annotated_types import Ge

from unlearn_runner.data.rows import Rows
from unlearn_runner.errors import ConfigError
from unlearn_runner.methods.base import Positive
from unlearn_runner.methods.one_shot import Context, OneShot

if TYPE_CHECKING:
    from unlearn_runner.models.gradients import Gradient


@dataclass(frozen=True)
class TRU(OneShot):
    """Task vectors of parts of the forget set, each rectified by that of the rest; no retain data.

    A RECONSTRUCTION: the GRU paper names TRU, but its definition and code are not public beyond a
    data set that cuts the forget rows into equal contiguous parts (spec 1.6). Here, with T_k the
    task vector of part k and R_k that of all other parts,

        T_k <- T_k - max(0, <T_k, R_k>) / <R_k, R_k> R_k
        theta_u = theta - alpha sum_k T_k

    that is, -T_k may not conflict with R_k, the surrogate of general ability.
    """

    alpha: Positive = 1.0
    """How far back; to be found on validation data."""
    splits: Annotated[int, Ge(2)] = 4
    """Parts; each costs two fine-tunes, of the part and of the rest."""

    def finetunes(self, forget: Rows) -> tuple[Rows, ...]:
        """Returns the parts (the last takes the remainder), then the rest of each.

        Raises:
            ConfigError: If there are more parts than rows.
        """
        size = len(forget) // self.splits
        if size == 0:
            raise ConfigError(
                f"method.splits={self.splits} is not allowed; allowed: 2 to {len(forget)}, the "
                "number of forget rows",
                f"method.splits={min(4, len(forget))}",
            )
        items, own, rest = forget.items, [], []
        for k in range(self.splits):
            first = k * size
            end = first + size if k < self.splits - 1 else len(items)
            own.append(Rows(f"{forget.name}[{first}:{end}]", items[first:end]))
            others = items[:first] + items[end:]
            rest.append(Rows(f"{forget.name} without [{first}:{end}]", others))
        return (*own, *rest)

    def run(self, ctx: Context) -> Gradient:
        """Returns the negated sum of the rectified vectors; three are held at once."""
        space, total = ctx.space, None
        for k in range(self.splits):
            own, rest = ctx.vector(k), ctx.vector(self.splits + k)
            dot, square = space.dots((own, rest), (rest, rest))
            if dot > 0 and square > 0:
                own = space.add(own, rest, -dot / square)
            total = own if total is None else space.add(total, own)
        assert total is not None
        return space.scale(total, -self.alpha)
