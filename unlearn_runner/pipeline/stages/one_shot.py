"""Unlearning in one go: fine-tuned variants of the start model in, one changed model out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from unlearn_runner.methods.one_shot import OneShot
from unlearn_runner.pipeline.stages.base import Stage, StageContext
from unlearn_runner.store.artifact import Outcome
from unlearn_runner.training.divergence import Diverged, count_nonfinite


@dataclass(frozen=True)
class Edit(Stage):
    """Adds to the start model's weights what a one-shot method computes."""

    start: Stage
    tuned: tuple[Stage, ...]
    """The start model fine-tuned on each of the method's sets of rows."""
    method: OneShot
    save_dtype: str

    kind: ClassVar[str] = "unlearn"
    order: ClassVar[int] = 1
    on_all_ranks: ClassVar[bool] = False

    @property
    def inputs(self) -> tuple[Stage, ...]:
        """The start model and its fine-tunes."""
        return (self.start, *self.tuned)

    def run(self, context: StageContext) -> Outcome:
        """Loads, changes, saves."""
        import torch

        from unlearn_runner.methods.one_shot import Context
        from unlearn_runner.models.gradients import Gradient, GradientSpace
        from unlearn_runner.models.load import load_model, load_tokenizer, save

        session = context.open_session()
        folder = context.path(self.start)
        model = load_model(folder, "float32", session.device)
        space = GradientSpace(model.named_parameters())
        names = [name for name, p in model.named_parameters() if p.requires_grad]

        @torch.no_grad()
        def vector(part: int) -> Gradient:
            other = load_model(context.path(self.tuned[part]), "float32", session.device)
            found = dict(other.named_parameters())
            pairs = zip(names, space.parameters, strict=True)
            return [found[name].detach().sub_(p) for name, p in pairs]

        with torch.no_grad():
            change = self.method.run(Context(space, vector))
            for parameter, entry in zip(space.parameters, change, strict=True):
                if entry is not None:
                    parameter.add_(entry)
        facts = {"stage": self.label, "step": 1, "change_norm": space.norm(change)}
        if weights := count_nonfinite(model, space.layout):
            context.log(Diverged({}, weights, True, facts).line)
            return "diverged"
        context.log(facts)
        save(model, load_tokenizer(folder), context.folder, self.save_dtype)
        return "completed"
