"""Solution of an influence system with its certificate; stopped and continued like training."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from unlearn_runner.methods.influence import Influence
from unlearn_runner.models.gradients import Gradient, GradientSpace
from unlearn_runner.training import checkpoint
from unlearn_runner.training.influence.risk import Hessian, Request, Risk, sampled
from unlearn_runner.training.influence.solvers import (
    ALL,
    CG,
    MINRES,
    SGD,
    LiSSA,
    NegativeCurvature,
    Released,
    Solver,
    State,
    lanczos,
    ritz,
)
from unlearn_runner.training.loop import TrainingLog
from unlearn_runner.utils import signals
from unlearn_runner.utils.progress import progress

RITZ_STEPS = 10
RAISED = 10.0
"""What damping is multiplied by at a direction of negative curvature."""


@dataclass
class Progress:
    """All that an interrupted solution is continued with."""

    b: Gradient
    facts: dict[str, float]
    """What was measured at the target before the first step."""
    damping: float
    state: State
    step: int = 0
    raised: int = 0
    """How often damping was raised."""
    done: bool = False
    history: list[dict[str, float]] = field(default_factory=list)


@dataclass
class System:
    """One request at one model: H + mu, b, and a solver.

    Args:
        method: Its settings.
        request: Rows trained on, and what is to become of some.
        risk: Of the model, in evaluation mode.
        seed: Of samples and minibatches.
    """

    method: Influence
    request: Request
    risk: Risk
    seed: int

    def __post_init__(self) -> None:
        method, full = self.method, self.request.full
        rows = full if method.hessian == "original" else self.request.after()
        weight = self.risk.size(rows) / self.risk.size(full)
        sample, held = sampled(rows, method.rows, method.held_rows, self.seed)
        self.hessian = Hessian(self.risk, method.hvp, sample, weight, self.seed)
        self.held = Hessian(self.risk, method.hvp, held, weight, self.seed)

    @property
    def space(self) -> GradientSpace:
        """Arithmetic of the solution."""
        return self.risk.space

    def begin(self) -> Progress:
        """Measures what the target is like, and sets damping."""
        space, b = self.space, self.request.right_hand_side(self.risk)
        slope = self.risk.gradient(self.request.full, self.risk.size(self.request.full))
        slope = space.add(slope, space.weights(), self.risk.l2)
        values = lanczos(self.hessian.product, b, RITZ_STEPS, space)
        facts = {
            "b_norm": space.norm(b),
            "gradient_norm": space.norm(slope),
            "largest_ritz": values[-1],
            "smallest_ritz": values[0],
        }
        damping = self.method.damping * max(values[-1], 0.0)
        if self.method.solver == "released":
            damping = 0.0  # its own is Adam's weight decay
        return Progress(b, facts, damping, self.solver(facts, damping).begin(b, space))

    def solver(self, facts: Mapping[str, float], damping: float) -> Solver:
        """Returns the solver that the method names."""
        method, size = self.method, abs(facts["largest_ritz"]) + damping
        lr = method.lr or 0.5 / max(size, 1e-30)
        made: dict[str, Callable[[], Solver]] = {
            "cg": CG,
            "minres": MINRES,
            "sgd": lambda: SGD(lr, method.steps),
            "lissa": lambda: LiSSA(lr, method.steps),
            "released": lambda: Released(method.lr or 1e-5),
        }
        return made[method.solver]()

    def apply(self, v: Gradient, step: int, damping: float) -> Gradient:
        """Returns (H + mu) v."""
        found = (
            self.hessian.product(v)
            if step == ALL
            else self.hessian.minibatch(v, step, self.method.batch)
        )
        return self.space.add(found, v, damping)

    def advance(self, at: Progress) -> None:
        """Takes a step of the solver, or raises the damping and begins anew."""
        solver = self.solver(at.facts, at.damping)
        at.step += 1
        line: dict[str, float] = {"step": at.step, "damping": at.damping}
        try:
            damping = at.damping
            solver.step(at.state, at.step, lambda v, k: self.apply(v, k, damping), at.b, self.space)
        except NegativeCurvature:
            at.damping = RAISED * (at.damping or 1e-3 * abs(at.facts["largest_ritz"]))
            at.raised += 1
            at.state = self.solver(at.facts, at.damping).begin(at.b, self.space)
            at.history.append({**line, "negative_curvature": 1.0})
            return
        residual = solver.residual(at.state)
        scale = at.facts["b_norm"] or 1.0
        if residual is not None:
            line["residual"] = residual / scale
            at.done = line["residual"] <= self.method.tolerance
        elif at.step % max(1, self.method.steps // 10) == 0:
            x = solver.solution(at.state, self.space)
            line["residual_held"] = self.residual(self.held, x, at.b, at.damping) / scale
        at.done = at.done or at.step >= self.method.steps
        at.history.append(line)

    def residual(self, hessian: Hessian, x: Gradient, b: Gradient, damping: float) -> float:
        """Returns |(H + mu) x - b|."""
        found = self.space.add(hessian.product(x), x, damping)
        return self.space.norm(self.space.add(found, b, -1.0))

    def certificate(self, at: Progress, x: Gradient) -> dict[str, Any]:
        """Returns what can be said of a solution without a retraining."""
        space, hx = self.space, self.hessian.product(x)
        size, scale = space.norm(x), at.facts["b_norm"] or 1.0
        curved, along, linear = space.dots((x, hx), (x, x), (x, at.b))
        undamped = space.norm(space.add(space.copy(hx), at.b, -1.0))
        damped = space.norm(space.add(space.add(hx, x, at.damping), at.b, -1.0))
        values = ritz(at.state.diagonal, at.state.off) or [
            at.facts[name] + at.damping for name in ("smallest_ritz", "largest_ritz")
        ]
        full = len(self.request.full)
        gradients, products = (self.risk.passed[name] / full for name in ("gradients", "products"))
        size_of_removed = self.risk.size(self.request.removed) or 1
        return {
            "task": self.method.task,
            "solver": self.method.solver,
            "hvp": self.method.hvp,
            "hessian": self.method.hessian,
            "iterations": at.step,
            "residual": damped / scale,
            "residual_undamped": undamped / scale,
            "residual_held": self.residual(self.held, x, at.b, at.damping) / scale,
            "damping": at.damping,
            "damping_raised": at.raised,
            "curvature": curved / along if along else 0.0,
            "condition": values[-1] / values[0] if values[0] > 0 else None,
            "gradient_over_b": at.facts["gradient_norm"] / scale,
            "delta_norm": size,
            # To first order, in nats per token (or of a row's mean): what goes against what comes.
            "predicted_change": linear * self.risk.size(self.request.full) / size_of_removed,
            "n": full,
            "m": len(self.request.removed),
            "hessian_rows": len(self.hessian.rows),
            "held_rows": len(self.held.rows),
            "gradient_passes": gradients,
            "product_passes": products,
            **at.facts,
        }


def solve(system: System, title: str, log: TrainingLog) -> tuple[Gradient, dict[str, Any]]:
    """Returns delta and its certificate, continuing from a checkpoint where one is found.

    Raises:
        Interrupted: If a signal was received; a checkpoint has been saved.
    """
    space, method = system.space, system.method
    ranks = space.layout.ranks
    stored = checkpoint.load(log.checkpoints, log.key, space.layout.device, ranks)
    at = _restored(system, stored) if stored else system.begin()
    if not stored:
        log.write({"stage": title, "step": 0, **at.facts, "damping": at.damping})
    with progress(title, method.steps) as tick:
        tick.resume(at.step)
        while not at.done:
            system.advance(at)
            line = at.history[-1]
            log.write({"stage": title, **line})
            stop = bool(max(ranks.all_gather(signals.requested() or 0)))
            if stop or at.step % method.checkpoint_every == 0:
                checkpoint.save(log.checkpoints, log.key, at.step, _stored(system, at), ranks)
            if stop:
                raise signals.Interrupted(max(ranks.all_gather(signals.requested() or 0)))
            note = f"residual {line['residual']:.2e}" if "residual" in line else ""
            tick(note=note, check_signals=False)  # a rank must not leave before the others know
    x = system.solver(at.facts, at.damping).solution(at.state, space)
    found = system.certificate(at, x)
    log.write({"stage": title, "step": at.step, **_numbers(found)})
    return x, {**found, "history": at.history}


def _numbers(found: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in found.items() if isinstance(value, (int, float))}


def _stored(system: System, at: Progress) -> dict[str, Any]:
    space = system.space
    rest = {
        name: getattr(at, name)
        for name in ("facts", "damping", "step", "raised", "done", "history")
    }
    vectors = {name: space.to_checkpoint(v) for name, v in at.state.vectors.items()}
    return {
        **rest,
        "b": space.to_checkpoint(at.b),
        "solver": {**asdict(State({}, at.state.numbers, at.state.diagonal, at.state.off))},
        "vectors": vectors,
        "passed": system.risk.passed,
    }


def _restored(system: System, stored: dict[str, Any]) -> Progress:
    space = system.space
    system.risk.passed |= stored["passed"]
    vectors = {name: space.from_checkpoint(v) for name, v in stored["vectors"].items()}
    state = State(**{**stored["solver"], "vectors": vectors})
    names = ("facts", "damping", "step", "raised", "done", "history")
    return Progress(
        b=space.from_checkpoint(stored["b"]), state=state, **{name: stored[name] for name in names}
    )
