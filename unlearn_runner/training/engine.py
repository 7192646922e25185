"""The training step, for fine-tuning and unlearning alike.

Groups outside, micro-batches inside: `p.grad` is the only accumulator, each group of terms gets one
pass, and the rectifier turns the groups' gradients into the one the optimizer steps with.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from unlearn_runner.distributed.layout import Layout
from unlearn_runner.errors import DataError
from unlearn_runner.methods.base import Method, Term
from unlearn_runner.models.forward import Models
from unlearn_runner.models.gradients import GradientSpace, clip_factor
from unlearn_runner.rectifiers.base import Group, Rectifier, RectifierState
from unlearn_runner.rectifiers.none import NoRectifier
from unlearn_runner.training import divergence, optimizer
from unlearn_runner.training.audit import mean_loss
from unlearn_runner.training.batches import StepRows
from unlearn_runner.training.divergence import Diverged
from unlearn_runner.training.recipe import Recipe
from unlearn_runner.utils import signals


@dataclass
class Engine:
    """Training steps of one stage, and all state that they change.

    Args:
        models: The trained model, and the start model where a term needs it.
        terms: Terms of the objective that is minimised.
        recipe: Optimisation settings.
        num_rows: Rows of an epoch.
        pad: Token id that fills rows of a batch.
        rectifier: Maps the gradients of groups of terms to the one that is stepped with.
        layout: Where the trained model's parameters and gradients live.
        method: The method the terms belong to, if it may change their weights after a step.
        audit_rows: Rows on which the rectifier's audit is measured, if it has one.
    """

    models: Models
    terms: tuple[Term, ...]
    recipe: Recipe
    num_rows: int
    pad: int
    rectifier: Rectifier = field(default_factory=NoRectifier)
    layout: Layout = field(default_factory=Layout)
    method: Method | None = None
    audit_rows: StepRows | None = None

    def __post_init__(self) -> None:
        self.space = GradientSpace(self.models.trained.named_parameters(), self.layout)
        self.groups = self.rectifier.groups(self.terms)
        if self.rectifier.audit(self.terms) is not None and self.audit_rows is None:
            raise ValueError("the rectifier measures a loss along the way and was given no rows")
        self.optimizer = optimizer.optimizer(self.space.parameters, self.recipe)
        self.schedule = optimizer.schedule(self.optimizer, self.recipe, self.num_rows)
        self.rectifier_state: RectifierState = {}
        self.method_state: dict[str, float] = {}
        """What the method changes after each step, by name; see `Method.after_step`."""
        self.device = self.layout.device
        self.stop_requested = False
        """Whether any rank had received a signal when the last step's losses were summed."""

    def gradients(
        self, rows: StepRows, groups: Sequence[Group] | None = None
    ) -> tuple[dict[str, Any], dict[str, float]]:
        """Returns one gradient per group and the loss of each term over the whole step.

        Rows are shared out over the ranks; gradients and losses are sums over all of them. The
        groups are the rectifier's unless others are given.
        """
        ranks, trained = self.layout.ranks, self.models.trained
        gradients = {}
        losses: dict[str, torch.Tensor] = {}
        for group in self.groups if groups is None else groups:
            self.space.clear()
            for term in group.terms:
                count = rows.count(term.split, term.unit)
                for micro in rows.micro(
                    term.split, self.recipe.micro_batch, self.pad, self.device, ranks
                ):
                    last = micro.last and term is group.terms[-1]
                    self.layout.before_backward(trained, last)
                    loss = term.loss(self.models, micro.batch) / count
                    if micro.is_filler:
                        loss = loss * 0.0
                    (loss * term.weight).backward()
                    losses[term.name] = losses.get(term.name, 0) + loss.detach()
            gradients[group.name] = self.space.collect()
        return gradients, self._summed(losses)

    def _summed(self, losses: dict[str, torch.Tensor]) -> dict[str, float]:
        """Sums losses over the ranks, and, in the same message, whether any is to stop."""
        values = [loss.double() for loss in losses.values()]
        values.append(values[0].new_tensor(bool(signals.requested())))
        *values, stop = self.layout.ranks.all_reduce_sum(torch.stack(values)).tolist()
        self.stop_requested = bool(stop)
        return dict(zip(losses, values, strict=True))

    def step(self, rows: StepRows) -> dict[str, Any]:
        """Takes one optimizer step; returns its telemetry.

        Raises:
            Diverged: If a loss or the gradient is not finite; the weights are as before the step.
        """
        audited = self._audit()
        gradients, losses = self.gradients(rows)
        rectified = self.rectifier.rectify(gradients, self.terms, self.rectifier_state, self.space)
        gradient, clipped = rectified.gradient, 1.0
        norm = rectified.norm
        if self.recipe.l2:
            gradient = self.space.add(gradient, self.space.weights(), self.recipe.l2)
            norm = None
        if norm is None:
            norm = self.space.norm(gradient)
        if self.recipe.clip is not None and not self.rectifier.bounds_norm:
            clipped = clip_factor(norm, self.recipe.clip)
        if clipped < 1:
            gradient = self.space.scale(gradient, clipped)
        numbers = {**_losses(losses), "grad_norm": norm}
        lr = self.schedule.get_last_lr()[0]
        if divergence.nonfinite(numbers):
            self.space.clear()
            weights = divergence.count_nonfinite(self.models.trained, self.layout)
            facts = {**numbers, "lr": lr}
            raise Diverged({**numbers, **rectified.facts}, weights, facts=facts)
        self.space.assign(gradient)
        facts = {**audited, **rectified.facts, **self._update(clipped)}
        self.schedule.step()
        self.space.clear()
        if self.schedule.last_epoch == self.recipe.num_steps(self.num_rows):
            facts |= self._audit()
        self._after_step(losses)
        return {**numbers, "lr": lr, **facts, **self.method_state}

    def _update(self, clipped: float) -> dict[str, float | bool | None]:
        """Steps the optimizer; a rectifier with a `correct` of its own may change that step.

        Returns its telemetry.
        """
        if not self.rectifier.corrects:
            self.optimizer.step()  # without a second copy of the weights
            return {}
        before, lr = self.space.weights(), self.schedule.get_last_lr()[0]
        self.optimizer.step()
        update = self.space.moved(before)
        step = optimizer.AdamWStep(update, before, lr, clipped, self.optimizer, self.space)
        corrected = self.rectifier.correct(step, self.rectifier_state, self.space)
        if corrected.update is not None:
            self.space.move(before, corrected.update)
        return corrected.facts

    def _audit(self) -> dict[str, float | bool | None]:
        """Measures the rectifier's audit where one is due; returns its telemetry."""
        audit, rows = self.rectifier.audit(self.terms), self.audit_rows
        done, total = self.schedule.last_epoch, self.recipe.num_steps(self.num_rows)
        if audit is None or rows is None or (done % audit.every and done < total):
            return {}
        size = self.recipe.micro_batch or self.recipe.batch_size
        loss = mean_loss(self.models, audit.term, rows, size, self.pad, self.layout)
        return self.rectifier.audited(loss, done, total, self.rectifier_state)

    @torch.no_grad()
    def check_finite(self, rows: StepRows, facts: dict[str, Any]) -> None:
        """Checks the model after a step, before it is saved or evaluated; every rank must call it.

        Weights may be finite and yet so large that nothing computed with them is. So each term is
        computed once more, on the first micro-batch of the step's rows.

        Raises:
            Diverged: If a weight or a loss is not finite.
        """
        ranks, trained = self.layout.ranks, self.models.trained
        trained.eval()
        losses = {}
        for term in (term for group in self.groups for term in group.terms):
            micro = rows.micro(term.split, self.recipe.micro_batch, self.pad, self.device, ranks)
            loss = term.loss(self.models, next(micro).batch) / rows.count(term.split, term.unit)
            losses[term.name] = loss.double()
        self.layout.release(trained)
        values = ranks.all_reduce_sum(torch.stack(list(losses.values()))).tolist()
        numbers = _losses(dict(zip(losses, values, strict=True)))
        weights = divergence.count_nonfinite(trained, self.layout)
        if weights or divergence.nonfinite(numbers):
            raise Diverged(numbers, weights, True, facts)

    def _after_step(self, losses: dict[str, float]) -> None:
        """Lets the method change its terms' weights; see `Method.after_step`."""
        if self.method is None:
            return
        watched = [term for group in self.groups for term in group.terms]
        # A rectifier may have taken a term over under another name.
        by_term = {
            own.name: losses[term.name]
            for own in self.terms
            for term in watched
            if term.same_loss(own)
        }
        epoch = self.schedule.last_epoch * self.recipe.batch_size / self.num_rows
        self._set_terms(self.method.after_step(by_term, epoch, self.method_state))

    def _set_terms(self, method_state: dict[str, float]) -> None:
        self.method_state = method_state
        if self.method is not None and method_state:
            self.terms = self.method.terms_after(method_state)
            self.groups = self.rectifier.groups(self.terms)

    def state(self, step: int) -> dict[str, Any]:
        """Returns this rank's share of everything that the steps after `step` depend on."""
        rectifier_state = {
            name: self.space.to_checkpoint(value) if isinstance(value, list) else value
            for name, value in self.rectifier_state.items()
        }
        return {
            "step": step,
            "model": self.layout.state(self.models.trained),
            "optimizer": optimizer.state(self.optimizer, self.layout),
            "schedule": self.schedule.state_dict(),
            "rectifier_state": rectifier_state,
            "method_state": self.method_state,
        }

    def restore(self, state: dict[str, Any]) -> int:
        """Continues from `state`, of any number of ranks; returns the number of steps done.

        Raises:
            DataError: If it is the state of a model of another shape.
        """
        try:
            self.layout.restore(self.models.trained, state["model"])
            optimizer.restore(self.optimizer, state["optimizer"], self.layout)
            self.schedule.load_state_dict(state["schedule"])
        except (RuntimeError, ValueError, LookupError, TypeError, AttributeError) as error:
            reason = " ".join(str(error).split())[:160]
            raise DataError(
                f"a checkpoint does not fit the model that is trained: {reason}",
                "remove the checkpoints, and the stage starts over",
            ) from None
        self.rectifier_state = {
            name: self.space.from_checkpoint(value) if isinstance(value, list) else value
            for name, value in state["rectifier_state"].items()
        }
        self._set_terms(state["method_state"])
        return int(state["step"])


def _losses(losses: dict[str, float]) -> dict[str, float]:
    """Returns losses by their names in telemetry."""
    return {f"loss/{name}": value for name, value in losses.items()}
