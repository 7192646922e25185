"""The training step and the loop, for fine-tuning and unlearning alike.

Groups outside, micro-batches inside: `p.grad` is the only accumulator, each group of terms gets one
pass, and the rectifier turns the groups' gradients into the one the optimizer steps with.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch

from unlearn_runner import interrupt
from unlearn_runner.errors import DataError
from unlearn_runner.methods.base import Term
from unlearn_runner.models.forward import Models
from unlearn_runner.models.trainable import restore_trainable, trainable_state
from unlearn_runner.progress import progress
from unlearn_runner.rectifiers.base import Memory, Rectifier
from unlearn_runner.rectifiers.none import Plain
from unlearn_runner.training import checkpoint, optim
from unlearn_runner.training.batches import Feed, StepRows
from unlearn_runner.training.gradients import GradientSpace
from unlearn_runner.training.recipe import Recipe

if TYPE_CHECKING:
    from unlearn_runner.stages.base import Work


@dataclass
class Engine:
    """Everything that changes while a model trains.

    Args:
        models: The trained model, and the start model where a term needs it.
        terms: What is minimised.
        recipe: How.
        num_rows: Rows that an epoch goes through.
        pad: Token id that fills rows of a batch.
        rectifier: What happens between the gradients and the step.
    """

    models: Models
    terms: tuple[Term, ...]
    recipe: Recipe
    num_rows: int
    pad: int
    rectifier: Rectifier = field(default_factory=Plain)

    def __post_init__(self) -> None:
        self.space = GradientSpace(self.models.trained.parameters())
        self.groups = self.rectifier.groups(self.terms)
        self.optimizer = optim.optimizer(self.space.parameters, self.recipe)
        self.schedule = optim.schedule(self.optimizer, self.recipe, self.num_rows)
        self.memory: Memory = {}
        self.device = self.space.parameters[0].device

    def gradients(self, rows: StepRows) -> tuple[dict[str, Any], dict[str, float]]:
        """Returns one gradient per group and the loss of each term over the whole step."""
        gradients = {}
        losses: dict[str, torch.Tensor] = {}
        for group in self.groups:
            self.space.clear()
            for term in group.terms:
                count = rows.count(term.split, term.unit)
                for batch in rows.micro(term.split, self.recipe.micro_batch, self.pad, self.device):
                    loss = term.loss(self.models, batch) / count
                    (loss * term.weight).backward()
                    losses[term.name] = losses.get(term.name, 0) + loss.detach()
            gradients[group.name] = self.space.take()
        values = torch.stack(list(losses.values())).tolist()
        return gradients, dict(zip(losses, values, strict=True))

    def step(self, rows: StepRows) -> dict[str, Any] | None:
        """Takes one optimizer step.

        Returns:
            The step's telemetry, or none when a loss or the gradient is not finite; then the
            weights are as before the step.
        """
        gradients, losses = self.gradients(rows)
        rectified = self.rectifier.rectify(gradients, self.terms, self.memory, self.space)
        gradient, bound = rectified.gradient, self.recipe.clip
        if bound is None or self.rectifier.bounds_norm:
            norm = self.space.norm(gradient)
        else:
            gradient, norm = self.space.clip(gradient, bound)
        if not all(map(math.isfinite, (norm, *losses.values()))):
            return None
        self.space.put(gradient)
        lr = self.schedule.get_last_lr()[0]
        self.optimizer.step()
        self.schedule.step()
        self.space.clear()
        named = {f"loss/{name}": value for name, value in losses.items()}
        return {**named, "grad_norm": norm, "lr": lr, **rectified.facts}

    def state(self, step: int) -> dict[str, Any]:
        """Returns everything that the steps after `step` depend on."""
        return {
            "step": step,
            "model": trainable_state(self.models.trained),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "memory": self.memory,
        }

    def restore(self, state: dict[str, Any]) -> int:
        """Continues from `state`; returns the number of steps done.

        Raises:
            DataError: If it is the state of a model of another shape.
        """
        try:
            restore_trainable(self.models.trained, state["model"])
            self.optimizer.load_state_dict(state["optimizer"])
            self.schedule.load_state_dict(state["schedule"])
        except (RuntimeError, ValueError, KeyError) as error:
            reason = " ".join(str(error).split())[:160]
            raise DataError(
                f"a checkpoint does not fit the model that is trained: {reason}",
                "remove the checkpoints, and the stage starts over",
            ) from None
        self.memory = state["memory"]
        return int(state["step"])


def train(
    engine: Engine,
    feed: Feed,
    title: str,
    work: Work,
    along: Callable[[int], None] = lambda _: None,
) -> bool:
    """Runs the loop to its end, continuing from a checkpoint where one is found.

    Args:
        engine: What changes.
        feed: The rows of every step.
        title: What telemetry and progress call it.
        work: Where checkpoints and telemetry go.
        along: Called with the number of steps done after every step, and once more for the step
            that a checkpoint was found of; must not change the model, nor mind being repeated.

    Returns:
        Whether it reached the end; false when training diverged (a non-finite loss or gradient).

    Raises:
        Interrupted: If a signal asked for it; a checkpoint has been left.
    """
    total = engine.recipe.num_steps(engine.num_rows)
    every = engine.recipe.checkpoint_every
    found = checkpoint.load(work.checkpoints, work.key, engine.device)
    first = engine.restore(found) if found else 0
    del found  # as large as the model and its optimizer together
    with progress(title, total) as tick:
        tick.resume(first)
        if first:
            along(first)
        for done in range(first + 1, total + 1):
            # Dropout, where a model has any, is drawn anew each step: the same step after a resume.
            torch.manual_seed(feed.draws.noise(done))
            engine.models.trained.train()
            started = time.perf_counter()
            rows = feed.step(done - 1)
            facts = engine.step(rows)
            if facts is None:
                work.log({"stage": title, "step": done, "diverged": True})
                return False
            rate = rows.num_tokens / (time.perf_counter() - started)
            work.log({"stage": title, "step": done, **facts, "tokens_per_s": round(rate, 1)})
            if interrupt.requested() or (every and done % every == 0 and done < total):
                checkpoint.save(work.checkpoints, work.key, done, engine.state(done))
            along(done)
            tick(note=" ".join(f"{k[5:]} {v:.3f}" for k, v in facts.items() if k[:5] == "loss/"))
    # The last step's gradient was finite; where it led need not be.
    return all(bool(torch.isfinite(p).all()) for p in engine.space.parameters)
