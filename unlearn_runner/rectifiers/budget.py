"""Budget: unlearning that may cost retained answers a stated share of their likelihood, no more.

`keep` is the share of the retain answers' probability per token that is to be left at the end, as a
geometric mean over tokens. With R the mean NLL of retain answers, in nats per token, and w(0), w(T)
the weights before and after the run:

    exp(R(w(0)) - R(w(T))) >= keep        that is        R(w(T)) - R(w(0)) <= -log(keep)

Each step may spend its even share of what is left, b = (-log(keep) - spent) / (steps left). Where
the optimizer's step d would raise R by more to first order, with r the gradient of R,

    d <- d - c P r,    c = (<d, r> - b) / <r, P r>       (closest step with <d, r> <= b)

What was spent is measured: the rise of R on the same retain rows every few steps, and what steps
spent by first order since. So an overdraft is paid back. First order misses curvature and, more so,
that r is of a few rows: a step that spends nothing on those spends on the others. What steps cost
beyond it of late, a running mean of measurements, is taken off b beforehand. And over the last
quarter of the budget d is shortened first: with all of it spent a run forgets no more until retain
answers have recovered.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import astuple, dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any

from annotated_types import Ge, Gt, Le, Lt

from unlearn_runner.methods.base import Term
from unlearn_runner.methods.losses import retain_loss
from unlearn_runner.rectifiers.base import (
    Audit,
    Corrected,
    OptimizerStep,
    Rectified,
    RectifierState,
)
from unlearn_runner.rectifiers.metric import steepest
from unlearn_runner.rectifiers.sides import facts_of
from unlearn_runner.rectifiers.watched import MEAN, RISK, Watcher, advance_mean

if TYPE_CHECKING:
    from unlearn_runner.models.gradients import Gradient, GradientSpace

BRAKE = 0.25
"""Share of the budget over whose spending the optimizer's step is shortened, down to nothing."""
RECENT = 0.5
"""Weight of the newest measurement in the running mean of what steps cost beyond first order."""
LEDGER, COUNT = "ledger", "count"


@dataclass(frozen=True)
class Ledger:
    """What a run has spent of its budget, in nats per token."""

    start: float
    """The risk before the first step, on the audit's rows."""
    measured: float
    """Its rise since, when it was last measured."""
    estimated: float
    """What steps have spent since then, to first order."""
    left: int
    """Steps left."""
    measured_left: int
    """Steps that were left when it was last measured."""
    excess: float = 0.0
    """What a step has cost of late beyond its first order."""

    @property
    def spent(self) -> float:
        """What has been spent by now."""
        return self.measured + self.estimated


@dataclass(frozen=True)
class Budget(Watcher):
    """Keeps the optimizer's steps within a budget of retain likelihood.

    Source: ours; one step is the half-space of GRU (arXiv 2503.09117) with a bound that need not be
    0, applied to the step AdamW takes, weight decay included. P is the inverse of AdamW's metric
    (`rectifiers.metric`), so no number is moved by more than c. The objective's gradient and the
    optimizer's moments are those of a run without a rectifier.
    """

    keep: Annotated[float, Gt(0), Le(1)] = 0.99
    """Share of the retain answers' probability per token to be left: .99 lets their NLL rise by
    .01005 nats per token, .9 by .105; 1 by nothing."""
    gamma: Annotated[float, Gt(0), Le(1)] = 0.3
    """Weight of the newest gradient of R in its running mean, which is bias-corrected and taken for
    r; 1 keeps no memory."""
    reach: Annotated[float, Gt(0)] = 3.0
    """Largest c, in learning rates: how far a correction may move a number."""
    rows: Annotated[int, Ge(1), Le(1_000_000)] = 256
    """Retain rows on which spending is measured, the same all along. A few rows carry much of the
    rise, so many rows now and then say more than few rows often."""
    every: Annotated[int, Ge(1), Le(1_000_000)] = 2
    """Steps between measurements, each a forward pass over `rows`."""
    reserve: Annotated[float, Ge(0), Lt(1)] = 0.25
    """Share of the budget not spent, for retain rows that are not among those measured and for what
    is spent between measurements (docs/rectifiers.md)."""

    @property
    def allowed(self) -> float:
        """Allowed rise of the mean NLL of retain answers, in nats per token."""
        return -math.log(self.keep)

    @property
    def spendable(self) -> float:
        """The same less the reserve."""
        return self.allowed * (1 - self.reserve)

    @property
    def gradients_kept(self) -> int:
        """The gradient of the risk, or its running mean."""
        return 1

    def watched(self, terms: tuple[Term, ...]) -> Term:
        """Returns the risk: NLL per token of retain answers, whatever unit the method has."""
        return Term("retain_risk", "retain", retain_loss("nll"))

    def audit(self, terms: tuple[Term, ...]) -> Audit:
        """Returns the risk, on rows that stay the same."""
        return Audit(self.watched(terms), self.rows, self.every)

    def audited(
        self, loss: float, done: int, total: int, state: RectifierState
    ) -> dict[str, float | bool | None]:
        """Enters what has been spent; after the last step, whether the budget was kept."""
        before = Ledger(*state[LEDGER]) if LEDGER in state else Ledger(loss, 0.0, 0.0, total, total)
        spent, left = loss - before.start, total - done
        excess = before.excess
        if steps := before.measured_left - left:
            newest = (spent - before.spent) / steps
            excess += RECENT * (newest - excess)
        state[LEDGER] = astuple(Ledger(before.start, spent, 0.0, left, left, excess))
        facts: dict[str, float | bool | None] = {"budget_spent": spent}
        return facts if done < total else {**facts, "budget_kept": spent <= self.allowed}

    def closing(self, last: Mapping[str, Any]) -> str | None:
        """Returns whether the budget was kept, on the rows that were measured."""
        if "budget_kept" not in last:
            return None
        spent, verdict = last["budget_spent"], "kept" if last["budget_kept"] else "not kept"
        return (
            f"budget {verdict}: retain NLL rose by {spent:.4f} nats a token, of {self.allowed:.4f} "
            f"allowed; {math.exp(-spent):.4f} of probability kept, rectifier.keep={self.keep} "
            f"(measured on up to {self.rows} retain rows)"
        )

    def rectify(
        self,
        gradients: Mapping[str, Gradient],
        terms: tuple[Term, ...],
        state: RectifierState,
        space: GradientSpace,
    ) -> Rectified:
        """Returns the objective's gradient as it is, and leaves the risk's for `correct`."""
        objective, risk = self.objective(gradients, terms, space), gradients[RISK]
        gramian = space.gramian(objective, risk)
        if math.isfinite(gramian[1][1]):
            state[COUNT] = 1 + (state[COUNT] if MEAN in state and self.gamma < 1 else 0)
            advance_mean(state, risk, self.gamma, space)
        else:
            state.pop(MEAN, None)  # one overflow would otherwise stay in the mean for good
        return Rectified(objective, facts_of(gramian, 0.0, gramian[0][0], acted=False))

    def correct(
        self, step: OptimizerStep, state: RectifierState, space: GradientSpace
    ) -> Corrected:
        """Bounds what the step spends by first order, and enters it."""
        ledger = Ledger(*state[LEDGER])
        bound, pace = self._share(ledger) - ledger.excess, self._pace(ledger)
        planned = spent = 0.0
        update, facts = step.update, {}
        if MEAN in state:
            risk = state[MEAN] if self.gamma < 1 else state.pop(MEAN)
            unbiased = 1 - (1 - self.gamma) ** state[COUNT]
            along = steepest("optimizer", step, risk, space)
            planned, square, before = space.dots((update, risk), (along, risk), (update, update))
            planned, square = planned / unbiased, square / unbiased
            coefficient = self._coefficient(pace * planned - bound, square, step.lr)
            if coefficient or pace < 1:
                update = space.add(space.scale(update, pace), along, -coefficient)
                (after,) = space.dots((update, update))
                surviving = math.sqrt(after / before) if before else None
                facts = {"rectified": True, "surviving_norm": surviving}
            spent = pace * planned - coefficient * square
        state[LEDGER] = astuple(
            replace(ledger, estimated=ledger.estimated + spent, left=ledger.left - 1)
        )
        facts |= {"budget_allowed": bound, "budget_planned": planned, "budget_first_order": spent}
        facts |= {"budget_pace": pace}
        return Corrected(update if "rectified" in facts else None, facts)

    def _share(self, ledger: Ledger) -> float:
        """Returns the even share of a step in what is left."""
        return (self.spendable - ledger.spent) / max(ledger.left, 1)

    def _pace(self, ledger: Ledger) -> float:
        """Returns the factor of the optimizer's step: 1 until most is spent, 0 when all is."""
        if ledger.spent <= (1 - BRAKE) * self.spendable:
            return 1.0
        if ledger.spent >= self.spendable:
            return 0.0
        return (self.spendable - ledger.spent) / (BRAKE * self.spendable)

    def _coefficient(self, excess: float, square: float, lr: float) -> float:
        """Returns c: 0 where the step stays within its bound, at most the reach."""
        if not (math.isfinite(excess) and math.isfinite(square) and square > 0 and excess > 0):
            return 0.0
        return min(excess / square, self.reach * lr)
