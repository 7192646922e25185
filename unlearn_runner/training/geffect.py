"""G-effect: inner products of an objective's gradient with those of two risks, tensor by tensor.

Source: Wang et al. 2025 (ICLR, arXiv 2502.19301). With R a risk (NLL) and L the objective at some
weights, e(D) = <grad R(D), grad L>: a small step -lr grad L changes R(D) by about -lr e(D). The
unlearning G-effect e_u is of the forget rows, the retaining one e_r of the retain rows.

The paper defines it with gradients over whole sets: `exact`. Its code smooths gradients of batches
of four rows: `ema`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from unlearn_runner.methods.base import Term
from unlearn_runner.methods.losses import NLL
from unlearn_runner.models.gradients import Gradient, GradientSpace, Gramian
from unlearn_runner.rectifiers.base import Group
from unlearn_runner.training.batches import StepRows
from unlearn_runner.training.engine import Engine

NEW = 0.4
"""Share of the new batch's gradient in the published code's running mean."""
BATCH, EVERY, FIRST = 4, 4, 3
"""Rows of a batch there; batches between two products; batches before the first."""
Risks = tuple[Term, Term]
"""Of forget rows and of retain rows."""


@dataclass(frozen=True)
class Effect:
    """What was measured at one model, of each trained tensor or of all together."""

    e_u: float
    """Inner product of the objective's gradient with that of the risk of forget rows."""
    e_r: float
    """With that of the risk of retain rows."""
    objective: float
    """Squared L2 norm of the objective's gradient."""
    forget: float
    """Of the gradient of the risk of forget rows."""
    retain: float
    """Of the gradient of the risk of retain rows."""

    def __add__(self, other: Effect) -> Effect:
        return Effect(
            self.e_u + other.e_u,
            self.e_r + other.e_r,
            self.objective + other.objective,
            self.forget + other.forget,
            self.retain + other.retain,
        )


ZERO = Effect(0.0, 0.0, 0.0, 0.0, 0.0)
Effects = dict[str, Effect]
"""By name of the tensor, in the model's order. They add up to the whole model's."""


@dataclass
class Meter:
    """Takes gradients of one model, and counts what that costs.

    Args:
        engine: Holds the model, in evaluation mode, and the objective's terms.
        risks: The risks.
    """

    engine: Engine
    risks: Risks
    losses: dict[str, float] = field(default_factory=dict)
    """Of every term and risk, where it was measured last."""
    rows_passed: int = 0
    """Rows that went forward and backward, over all ranks."""

    @property
    def space(self) -> GradientSpace:
        """The arithmetic of the model's gradients."""
        return self.engine.space

    def take(self, rows: StepRows, terms: Sequence[Term]) -> Gradient:
        """Returns the gradient of the terms' weighted sum over rows."""
        group = Group("measured", tuple(terms))
        gradients, losses = self.engine.gradients(rows, [group])
        self.losses |= losses
        self.rows_passed += sum(len(rows.splits[term.split]) for term in terms)
        return gradients[group.name]

    def exact(self, rows: StepRows) -> Effects:
        """Returns the effects with gradients over all these rows.

        Each loss is passed once: a risk that is one of the objective's own terms (GA's and
        GradDiff's NLL) gets no further pass, unless that would take a third gradient. At no moment
        are there more than two: one that is kept, and one that accumulates.

        Args:
            rows: Forget rows, retain rows, and what else the objective reads.
        """
        terms, (forget, retain) = self.engine.terms, self.risks
        first = next((r for r in (forget, retain) if _weight(terms, r) is not None), None)
        if first is None:
            objective = self.take(rows, terms)
            of_forget = self._gramians(objective, self.take(rows, [forget]))
            of_retain = self._gramians(objective, self.take(rows, [retain]))
            return {name: _effect(of_forget[name], of_retain[name]) for name in of_forget}
        second = retain if first is forget else forget
        rest = [term for term in terms if not term.same_loss(first)]
        weights = (_weight(terms, first) or 0.0, _weight(rest, second) or 0.0)
        kept = self.take(rows, [first])
        if all(term.same_loss(second) for term in rest):  # the objective lies between the two risks
            grams = self._gramians(kept, self.take(rows, [second]))
            found = {n: _within(g, weights) for n, g in grams.items()}
        else:
            rest_only = self.take(rows, rest)
            before = self._gramians(kept, rest_only)
            objective = self.space.add(rest_only, kept, weights[0])
            del kept
            after = self._gramians(objective, self.take(rows, [second]))
            found = {
                n: Effect(weights[0] * b[0][0] + b[0][1], a[0][1], a[0][0], b[0][0], a[1][1])
                for n, a, b in ((n, after[n], before[n]) for n in after)
            }
        return found if first is forget else {n: _swapped(e) for n, e in found.items()}

    def ema(self, steps: Iterable[StepRows]) -> list[tuple[int, Effects]]:
        """Returns the effects as the published code has them, each with its number of batches.

        It reports after batches 3, 7, 11, ... One gradient of each kind is kept from batch to
        batch, three in all. Of fewer than three batches (the code then reports nothing) the last is
        reported.

        Args:
            steps: Batches of the forget rows with their retain partners.
        """
        kinds = (self.engine.terms, (self.risks[0],), (self.risks[1],))
        means: list[Gradient | None] = [None, None, None]
        found: list[tuple[int, Effects]] = []
        number = 0
        for number, rows in enumerate(steps, 1):
            means = [
                smoothed(self.space, old, self.take(rows, terms))
                for old, terms in zip(means, kinds, strict=True)
            ]
            if number % EVERY == FIRST:
                found.append((number, self._three(means)))
        if number and not found:
            found.append((number, self._three(means)))
        return found

    def per_sample(self, rows: StepRows) -> list[tuple[float, float, float]]:
        """Returns of each forget row log p(s) in nats, and its two PG-effects.

        A PG-effect is the inner product of grad log p(s), gradient ascent's own direction on that
        row alone, with a risk's gradient. Both risks' gradients are kept meanwhile.
        """
        risks = [self.take(rows, [risk]) for risk in self.risks]
        term = Term("row", "forget", NLL(), -1.0, "row")
        found = []
        for row in rows.splits["forget"]:
            gradient = self.take(StepRows({"forget": [row]}), [term])
            of_forget, of_retain = self.space.dots(*((gradient, risk) for risk in risks))
            found.append((-self.losses["row"], of_forget, of_retain))
        return found

    def _gramians(self, *gradients: Gradient) -> dict[str, Gramian]:
        return self.space.gramians(self.space.parts("tensor"), *gradients)

    def _three(self, means: Sequence[Gradient | None]) -> Effects:
        grams = self._gramians(*(mean for mean in means if mean is not None))
        return {
            name: Effect(g[0][1], g[0][2], g[0][0], g[1][1], g[2][2]) for name, g in grams.items()
        }


def smoothed(space: GradientSpace, old: Gradient | None, new: Gradient) -> Gradient:
    """Returns the published code's running mean: the first gradient, then 0.6 old + 0.4 new."""
    return new if old is None else space.mix(old, new, NEW)


def _weight(terms: Sequence[Term], risk: Term) -> float | None:
    """Returns the weight that a risk has in the objective; none where it is no part of it."""
    found = [term.weight for term in terms if term.same_loss(risk)]
    return sum(found) if found else None


def _effect(of_forget: Gramian, of_retain: Gramian) -> Effect:
    """Returns the effect from the objective's Gramians with each risk."""
    return Effect(
        of_forget[0][1], of_retain[0][1], of_forget[0][0], of_forget[1][1], of_retain[1][1]
    )


def _within(gram: Gramian, weights: tuple[float, float]) -> Effect:
    """Returns the effect of an objective that is a weighted sum of the two risks."""
    a, b = weights
    (ff, fs), (_, ss) = gram
    return Effect(
        a * ff + b * fs, a * fs + b * ss, a * a * ff + 2 * a * b * fs + b * b * ss, ff, ss
    )


def _swapped(effect: Effect) -> Effect:
    return Effect(effect.e_r, effect.e_u, effect.objective, effect.retain, effect.forget)
