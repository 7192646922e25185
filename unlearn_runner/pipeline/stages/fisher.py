"""Row weights: relative Fisher information of the target's linear maps, for `adapter=fila`."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from unlearn_runner.data.prompts import Prompting
from unlearn_runner.data.rows import Rows
from unlearn_runner.models.adapters.importance import Importance
from unlearn_runner.pipeline.stages.base import Stage, StageContext
from unlearn_runner.store.artifact import Outcome
from unlearn_runner.store.keys import INERT

WEIGHTS, FACTS = "row_weights.safetensors", "fisher.json"


@dataclass(frozen=True)
class EstimateFisher(Stage):
    """Estimates a weight per output row of every adapted module; nothing else is kept.

    Source: LoKU's stage 0, run once per target and forget set, before any adapter is attached. The
    loss is the plain NLL of answers, on forget rows and on as many drawn retain rows.
    """

    model: Stage
    template: Prompting
    forget: Rows
    retain: Rows
    importance: Importance
    max_length: int
    precision: str
    micro_batch: int | None = field(metadata=INERT)

    kind: ClassVar[str] = "fisher"
    order: ClassVar[int] = 1

    def reads(self) -> str:
        """Names the model and the rows."""
        rows = f"{len(self.forget)} forget rows ({self.forget.name}), as many of"
        return f"{self.model.label}, {rows} {self.retain.name}, {self.importance.estimator}"

    def run(self, context: StageContext) -> Outcome:
        """Takes the gradients of both sides' losses batch by batch; writes weights and facts."""
        from unlearn_runner.data.encode import encode_rows, length_limit
        from unlearn_runner.models.load import load_tokenizer
        from unlearn_runner.training.fisher import Estimate, batches, only_measured
        from unlearn_runner.utils.files import write_json
        from unlearn_runner.utils.progress import progress

        session, how, folder = context.open_session(), self.importance, context.path(self.model)
        tokenizer, layout = load_tokenizer(folder), session.layout
        weights: dict[str, Any] = {}
        facts: dict[str, dict[str, float]] = {}
        for part in range(how.passes):
            prepare = partial(only_measured, importance=how, part=part)
            model = session.trainable(folder, self.precision, prepare).eval()
            if not any(p.requires_grad for p in model.parameters()):
                break  # more passes than modules
            limit = length_limit(model, self.max_length)
            rows = (
                encode_rows(tokenizer, self.template, rows, limit)
                for rows in (self.forget, self.retain)
            )
            pairs, pad = batches(how, *rows), tokenizer.pad_token_id
            autocast = partial(layout.autocast, self.precision)
            estimate = Estimate(model, how, layout, self.micro_batch, pad, autocast)
            mine = len(session.ranks.shard(pairs) if estimate.apart else pairs)
            with progress(self.label, mine) as tick:
                found, more = estimate.row_weights(pairs, tick)
            weights |= found
            facts |= more
        context.log({"stage": self.label, "step": 1, **_summary(facts)})
        if session.ranks.main:
            from safetensors.torch import save_file

            save_file(weights, context.folder / WEIGHTS)
            write_json(context.folder / FACTS, facts)
        session.ranks.barrier()
        return "completed"

    def closing(self, last: dict[str, Any]) -> str | None:
        """Says when the retain rows had no say."""
        share = last["eps_share"]
        if share < 0.5:
            return None
        return (
            f"{share:.0%} of the retain Fisher information is below adapter.eps: there FILA's row "
            "weights follow the forget rows alone; adapter.eps_relative=true lets both speak"
        )


def read_row_weights(folder: Path) -> dict[str, Any]:
    """Returns the weights that the stage has left, by module."""
    from safetensors.torch import load_file

    return load_file(folder / WEIGHTS)


def _summary(facts: dict[str, dict[str, float]]) -> dict[str, float]:
    """Returns means over modules."""
    names = next(iter(facts.values()))
    return {name: sum(f[name] for f in facts.values()) / len(facts) for name in names}
