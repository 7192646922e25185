"""Influence: the system's solution with its certificate, and what was trained with it added."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from unlearn_runner.data.rows import Rows
from unlearn_runner.methods.influence import Influence
from unlearn_runner.pipeline.stages.base import Stage, StageContext
from unlearn_runner.pipeline.stages.finetune import Finetune
from unlearn_runner.store.artifact import Outcome
from unlearn_runner.store.keys import INERT

if TYPE_CHECKING:
    from unlearn_runner.data.encode import Encoded
    from unlearn_runner.training.influence.risk import Risk

DELTA, CERTIFICATE, SCALE = "delta.safetensors", "certificate.json", "scale.json"


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

        import torch
        from safetensors.torch import save_file

        from unlearn_runner.models.load import load_tokenizer
        from unlearn_runner.training.divergence import Diverged
        from unlearn_runner.training.influence.risk import Request
        from unlearn_runner.training.influence.solve import System, solve
        from unlearn_runner.utils.files import finite, write_json

        session = context.open_session()
        tokenizer = load_tokenizer(context.path(self.fit))
        model = self.fit.trained(context)
        risk, full = self.risk(context, model, tokenizer, self.fit.rows)
        removed, new = (
            self.encoded(model, tokenizer, rows) if rows is not None else []
            for rows in (self.removed, self.replacements)
        )
        space, layout = risk.space, session.layout
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

    def encoded(self, model: Any, tokenizer: Any, rows: Rows) -> list[Encoded]:
        """Returns rows in tokens, as long as the fine-tune saw them."""
        from unlearn_runner.data.encode import encode_rows, length_limit

        limit = length_limit(model, self.fit.recipe.max_length)
        return encode_rows(tokenizer, self.fit.template, rows, limit)

    def risk(
        self, context: StageContext, model: Any, tokenizer: Any, rows: Rows
    ) -> tuple[Risk, list[Encoded]]:
        """Returns the risk that the fine-tune minimises, and rows in tokens to take it over."""
        from functools import partial

        from unlearn_runner.models.forward import Models
        from unlearn_runner.models.gradients import GradientSpace
        from unlearn_runner.training.influence.risk import Risk

        layout, recipe = context.open_session().layout, self.fit.recipe
        models = Models(model.eval(), None, partial(layout.autocast, recipe.precision))
        space, reduction = GradientSpace(model.named_parameters(), layout), self.method.reduction
        pad, l2 = tokenizer.pad_token_id, recipe.l2
        risk = Risk(models, space, reduction, self.micro_batch, pad, l2)
        return risk, self.encoded(model, tokenizer, rows)

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
    if found["residual_held"] > 1:  # that of no edit at all
        held = found["residual_held"]
        said.append(f"other rows than those of H have a residual of {held:.2g}, no edit has 1")
    if found["curvature"] <= 0:
        said.append("H is not positive along the solution")
    if found["damping_raised"]:
        said.append(f"damping was raised to {found['damping']:.2g}: H is indefinite")
    return said


@dataclass(frozen=True)
class ApplyInfluence(Stage):
    """Adds a solution, times a scale, to what its fine-tune trained."""

    solution: SolveInfluence
    scales: tuple[float, ...]
    """One, or several of which that with the least NLL of `validation` is taken."""
    validation: Rows | None

    kind: ClassVar[str] = "unlearn"
    order: ClassVar[int] = 1

    @property
    def belongs_to(self) -> Stage | None:
        """The base of an adapter."""
        return self.solution.fit.belongs_to

    def run(self, context: StageContext) -> Outcome:
        """Loads, adds, saves."""
        import math

        import torch
        from safetensors.torch import load_file

        from unlearn_runner.models.gradients import GradientSpace
        from unlearn_runner.models.load import load_tokenizer
        from unlearn_runner.training.divergence import Diverged, count_nonfinite
        from unlearn_runner.utils.files import finite, write_json

        session, fit = context.open_session(), self.solution.fit
        model, tokenizer = fit.trained(context), load_tokenizer(context.path(fit))
        space = GradientSpace(model.named_parameters(), session.layout)
        stored = load_file(context.path(self.solution) / DELTA)
        pairs = zip(space.names, space.parameters, strict=True)
        delta = [
            session.layout.from_checkpoint(stored[name], p).to(session.device) for name, p in pairs
        ]
        before, losses = space.weights(), {}

        @torch.no_grad()
        def edit(scale: float) -> None:
            space.set_weights(space.add(space.copy(before), [*delta], scale))

        if self.validation is not None:
            risk, rows = self.solution.risk(context, model, tokenizer, self.validation)
            for scale in self.scales:
                edit(scale)
                loss = risk.value(rows)
                losses[scale] = loss if math.isfinite(loss) else math.inf
        chosen = min(self.scales, key=lambda scale: losses.get(scale, 0.0))
        edit(chosen)
        facts = {"stage": self.label, "step": 1, "change_norm": chosen * space.norm([*delta])}
        if weights := count_nonfinite(model, space.layout):
            context.log(Diverged({}, weights, True, facts).line)
            return "diverged"
        context.log(facts)
        if session.ranks.main:
            found = {"scale": chosen, "validation_nll": {str(s): x for s, x in losses.items()}}
            write_json(context.folder / SCALE, finite(found))
        fit.save(model, tokenizer, context)
        return "completed"

    def facts(self, folder: Path) -> dict[str, Any]:
        """Returns the scale, and what it was chosen by."""
        return json.loads((folder / SCALE).read_text(encoding="utf-8"))
