"""Influence: the system's solution with its certificate, and what was trained with it added."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from unlearn_runner.data.rows import Rows
from unlearn_runner.methods.influence import Influence
from unlearn_runner.pipeline.stages.base import Stage, StageContext
from unlearn_runner.pipeline.stages.finetune import Finetune
from unlearn_runner.store.artifact import Outcome
from unlearn_runner.store.keys import INERT

DELTA, CERTIFICATE = "delta.safetensors", "certificate.json"


@dataclass(frozen=True)
class SolveInfluence(Stage):
    """Solves for the change of a fine-tune's weights that a change of its rows would cause."""

    fit: Finetune
    """What made the target: its rows are those that H and 1/n are of."""
    method: Influence
    """Its `scale` is left at 1: every scale has one solution."""
    removed: Rows
    replacements: Rows | None
    seed: int
    micro_batch: int = field(metadata=INERT)

    kind: ClassVar[str] = "influence"
    order: ClassVar[int] = 1

    def reads(self) -> str:
        """Names the rows."""
        rows = f"{len(self.removed)} of {len(self.fit.rows)} rows"
        return f"{self.fit.label}, {self.method.task} {rows}, {self.method.solver}"

    def run(self, context: StageContext) -> Outcome:
        """Solves; writes delta and certificate."""
        import math
        from functools import partial

        import torch
        from safetensors.torch import save_file

        from unlearn_runner.data.encode import encode_rows, length_limit
        from unlearn_runner.models.forward import Models
        from unlearn_runner.models.gradients import GradientSpace
        from unlearn_runner.models.load import load_tokenizer
        from unlearn_runner.training.divergence import Diverged
        from unlearn_runner.training.influence.risk import Request, Risk
        from unlearn_runner.training.influence.solve import System, solve
        from unlearn_runner.utils.files import finite, write_json

        session, fit = context.open_session(), self.fit
        layout, precision = session.layout, fit.recipe.precision
        tokenizer = load_tokenizer(context.path(fit))
        model = fit.trained(context).eval()
        limit = length_limit(model, fit.recipe.max_length)
        full, removed, new = (
            encode_rows(tokenizer, fit.template, rows, limit) if rows is not None else []
            for rows in (fit.rows, self.removed, self.replacements)
        )
        space = GradientSpace(model.named_parameters(), layout)
        models = Models(model, None, partial(layout.autocast, precision))
        risk = Risk(models, space, self.method.reduction, self.micro_batch, tokenizer.pad_token_id)
        system = System(self.method, Request(full, removed, new), risk, self.seed)
        delta, found = solve(system, self.label, context.training_log())
        if not math.isfinite(found["delta_norm"]):
            numbers = {"delta_norm": found["delta_norm"]}
            context.log(Diverged(numbers, {}, False, {"stage": self.label}).line)
            return "diverged"
        tensors = {}
        for name, entry, parameter in zip(space.names, delta, space.parameters, strict=True):
            assert entry is not None
            whole = layout.gathered(entry, parameter)
            if session.ranks.main:
                tensors[name] = whole.detach().to("cpu", torch.float32).contiguous()
        if session.ranks.main:
            save_file(tensors, context.folder / DELTA)
            write_json(context.folder / CERTIFICATE, finite(found))
        session.ranks.barrier()
        return "completed"

    def facts(self, folder: Path) -> dict[str, Any]:
        """Returns the certificate without its history."""
        found = json.loads((folder / CERTIFICATE).read_text(encoding="utf-8"))
        return {name: value for name, value in found.items() if name != "history"}

    def closing(self, last: dict[str, Any]) -> str | None:
        """Says whether the edit is to be trusted, where its own figures say no."""
        said = doubts(last, self.method.tolerance)
        return f"method=influence: {'; '.join(said)} (docs/influence.md)" if said else None


def doubts(found: dict[str, Any], tolerance: float) -> list[str]:
    """Returns what in a certificate speaks against its solution."""
    said = []
    if found["gradient_over_b"] > 1:
        ratio = found["gradient_over_b"]
        said.append(f"the target has not converged (|grad R| = {ratio:.2g} |b|)")
    if found["residual"] > 2 * tolerance:
        said.append(f"the system is not solved (residual {found['residual']:.2g})")
    if found["curvature"] <= 0:
        said.append("H is not positive along the solution")
    if found["damping_raised"]:
        said.append(f"damping was raised to {found['damping']:.2g}: H is indefinite")
    return said


@dataclass(frozen=True)
class ApplyInfluence(Stage):
    """Adds a solution, times a scale, to what its fine-tune trained."""

    solution: SolveInfluence
    scale: float

    kind: ClassVar[str] = "unlearn"
    order: ClassVar[int] = 1

    @property
    def belongs_to(self) -> Stage | None:
        """The base of an adapter."""
        return self.solution.fit.belongs_to

    def run(self, context: StageContext) -> Outcome:
        """Loads, adds, saves."""
        import torch
        from safetensors.torch import load_file

        from unlearn_runner.models.gradients import GradientSpace
        from unlearn_runner.models.load import load_tokenizer
        from unlearn_runner.training.divergence import Diverged, count_nonfinite

        session, fit = context.open_session(), self.solution.fit
        model = fit.trained(context)
        space = GradientSpace(model.named_parameters(), session.layout)
        stored = load_file(context.path(self.solution) / DELTA)
        pairs = zip(space.names, space.parameters, strict=True)
        delta = [
            session.layout.from_checkpoint(stored[name], p).to(session.device) for name, p in pairs
        ]
        with torch.no_grad():
            space.set_weights(space.add(space.weights(), [*delta], self.scale))
        facts = {"stage": self.label, "step": 1, "change_norm": self.scale * space.norm([*delta])}
        if weights := count_nonfinite(model, space.layout):
            context.log(Diverged({}, weights, True, facts).line)
            return "diverged"
        context.log(facts)
        fit.save(model, load_tokenizer(context.path(fit)), context)
        return "completed"
