"""Influence functions: the change of trained weights that a change of training rows would cause."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, ClassVar, Literal

from annotated_types import Ge, Gt, Le, Lt

from unlearn_runner.errors import ConfigError
from unlearn_runner.methods.base import Method, NonNegative, Term
from unlearn_runner.store.keys import INERT

Rows = Annotated[int, Ge(1), Le(1_000_000_000)]
SCALES = (0.25, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0)
STEPS = {"cg": 50, "minres": 50, "sgd": 500, "lissa": 500, "released": 20}


@dataclass(frozen=True)
class Influence(Method):
    """Solves H delta = b, and adds delta to what was trained of the target.

    b is the mean gradient of what goes minus that of what comes, H the second derivative of the
    training risk. Source: LLMEraser (2412.00383), for adapters. Deviations: signs as derived; a
    solver that converges, and says whether it has; damping in units of the largest Ritz value.
    """

    one_shot: ClassVar[bool] = True
    solves: ClassVar[bool] = True

    task: Literal["remove", "modify_query", "correct_response"] = "remove"
    """The forget rows are taken out; or, where the benchmark has other versions of them, get
    another question, or another answer."""
    hessian: Literal["original", "new"] = "original"
    """H of the rows that the target was trained on; or of the rows as they should have been, which
    makes it a Newton step on their risk: more exact for large requests."""
    hvp: Literal["double", "difference", "gauss_newton"] = "double"
    """Products with H: by double backward, by central differences of gradients (any engine), or
    with the Gauss-Newton matrix in H's place, which is never indefinite."""
    solver: Literal["cg", "minres", "sgd", "lissa", "released"] = "cg"
    """`released` is what LLMEraser's code does, which solves nothing; to compare with."""
    damping: NonNegative = 1e-3
    """H + mu, with mu this many of the largest Ritz value. It is raised tenfold where cg meets a
    direction of negative curvature."""
    iterations: Annotated[int, Ge(1), Le(1_000_000)] | None = None
    """At most; null is 50 of cg and minres, 500 of sgd and lissa, 20 of released."""
    tolerance: Annotated[float, Gt(0), Lt(1)] = 1e-2
    """Relative residual at which cg and minres stop."""
    rows: Rows | None = 512
    """Size of the fixed sample of training rows that H is of; null is all of them."""
    held_rows: Rows = 64
    """Size of the sample, of other training rows, on which the residual is measured as well."""
    batch: Rows = 8
    """Rows of a minibatch of sgd, lissa and released."""
    lr: Annotated[float, Gt(0)] | None = None
    """Of sgd and lissa; null is 0.5 / (largest Ritz value + mu), as minibatches have larger ones.
    Of released; null is 1e-5."""
    reduction: Literal["token", "row"] = "token"
    """The risk is a mean over answer tokens, which our fine-tunes minimise; or over rows of their
    means, which the paper writes."""
    scale: float | Literal["auto"] = 1.0
    """What delta is multiplied by. A sweep of it solves once. auto: that of 0.25, 0.5, 1, 1.5, 2, 3
    and 4 at which the benchmark's validation rows have the least NLL."""
    checkpoint_every: Annotated[int, Ge(1)] = field(default=10, metadata=INERT)
    """Iterations between checkpoints of the solver."""

    def __post_init__(self) -> None:
        if self.solver == "released" and self.hessian == "new":
            raise ConfigError(
                "method.solver=released is what the published code does, with its own Hessian",
                "method.hessian=original",
            )

    def terms(self) -> tuple[Term, ...]:
        """Returns nothing: there is no loop."""
        return ()

    @property
    def needs_whole(self) -> bool:
        """Unless products are differences of gradients."""
        return self.hvp != "difference"

    @property
    def steps(self) -> int:
        """Iterations at most."""
        return self.iterations or STEPS[self.solver]
