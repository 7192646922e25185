"""G-effect of a run: what each objective's gradient does to two risks, at every kept model."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

from unlearn_runner.methods.base import Term
from unlearn_runner.methods.losses import KL, NLL
from unlearn_runner.models.layer_groups import layer_groups
from unlearn_runner.pipeline.stages.base import Stage, StageContext
from unlearn_runner.pipeline.stages.evaluate import step_folder
from unlearn_runner.pipeline.stages.geffect_tables import FACTS, running_sums, write_tables
from unlearn_runner.pipeline.stages.objective import OfObjective
from unlearn_runner.store.artifact import Outcome
from unlearn_runner.tracking.folder import METRICS, last_by_step
from unlearn_runner.utils.files import write_json

if TYPE_CHECKING:
    from unlearn_runner.pipeline.session import Session
    from unlearn_runner.training.alternatives import ExtraSplits
    from unlearn_runner.training.batches import StepRows
    from unlearn_runner.training.geffect import Meter

RISKS = {"nll": NLL(), "kl": KL()}


@dataclass(frozen=True)
class MeasureGEffect(OfObjective):
    """Measures the G-effect of an objective along the models that a run has kept.

    The objective's terms have the weights that they begin with, also where a method moves them
    (`method=pdu`).
    """

    trajectory: Stage
    """Has kept its models."""
    steps: tuple[int, ...]
    """Of the models it has kept on its way."""
    last: int
    """Step of the model it ended with."""
    mode: str
    risks: tuple[Term, Term]
    """Of forget and of retain rows."""
    sizes: tuple[int | None, int | None]
    """Of the fixed samples of forget and retain rows."""
    boundaries: tuple[int, int] | None
    per_sample: bool

    kind: ClassVar[str] = "geffect"
    order: ClassVar[int] = 2

    def reads(self) -> str:
        """Names the models and the rows."""
        return f"{len(self.steps) + 2} models of {self.trajectory.label}, {self.start.label}"

    @property
    def watched(self) -> tuple[Term, ...]:
        """The objective's terms, and the risks."""
        return (*self.method.terms(), *self.risks)

    def run(self, context: StageContext) -> Outcome:
        """Measures model after model; writes tables."""
        from unlearn_runner.models.load import load_tokenizer
        from unlearn_runner.utils.progress import progress

        session = context.open_session()
        tokenizer = load_tokenizer(context.path(self.start))
        steps = (0, *self.steps, self.last)
        found: list[dict[str, Any]] = []
        with progress(self.label, len(steps)) as tick:
            for step in steps:
                place = context.checkpoints / f"{step_folder(step)}.json"
                if not session.ranks.broadcast(place.exists()):
                    measured = self._measure(step, tokenizer, context, session)
                    if session.ranks.main:
                        write_json(place, measured)
                    session.ranks.barrier()
                found.append(json.loads(place.read_text(encoding="utf-8")))
                effect = found[-1]["reports"][-1]["whole"]
                note = f"step {step} e_u {effect['e_u']:.3g} e_r {effect['e_r']:.3g}"
                context.log({"stage": self.label, "step": step, **_line(found[-1])})
                tick(note=note, check_signals=False)  # `_measure` asks all ranks
        if session.ranks.main:
            lines = last_by_step(context.path(self.trajectory) / METRICS)
            rates = {line["step"]: line.get("lr", 0.0) for line in map(json.loads, lines)}
            write_tables(context.folder, running_sums(found, rates), self._facts())
        return "completed"

    def _measure(
        self, step: int, tokenizer: Any, context: StageContext, session: Session
    ) -> dict[str, Any]:
        """Returns what is found at the model of a step."""
        from unlearn_runner.data.encode import length_limit
        from unlearn_runner.models.forward import Models
        from unlearn_runner.training.engine import Engine
        from unlearn_runner.training.geffect import Meter

        folder, layout = context.path(self.start), session.layout
        model = self._model(step, context, session)
        max_tokens = length_limit(model, self.recipe.max_length)
        forget, retain = self.rows_in_tokens(tokenizer, max_tokens, context, self.watched)
        start = self.start_model(session, folder, model, self.watched)
        size = self.recipe.micro_batch or self.recipe.batch_size
        engine = Engine(
            models=Models(model, start, partial(layout.autocast, self.recipe.precision), self.seed),
            terms=self.method.terms(),
            recipe=replace(self.recipe, micro_batch=size),
            num_rows=len(forget),
            pad=tokenizer.pad_token_id,
            layout=layout,
        )
        meter = Meter(engine, self.risks)
        extra = self.extra_splits(tokenizer, max_tokens, context)
        return self._reports(step, meter, forget, retain, extra)

    def _model(self, step: int, context: StageContext, session: Session) -> Any:
        """Returns the model of a step, in evaluation mode: dropout is off."""
        start, kept = context.path(self.start), context.path(self.trajectory)
        if step != self.last:
            kept = kept / step_folder(step) / "model"
        if step == 0:
            return self.trained(context, start).eval()
        if self.adapter.adapts:
            return self.trained(context, start, kept).eval()
        return self.trained(context, kept).eval()

    def _reports(
        self,
        step: int,
        meter: Meter,
        forget: Sequence[Any],
        retain: Sequence[Any],
        extra: ExtraSplits,
    ) -> dict[str, Any]:
        """Returns what `_measure` does, of a model that is loaded and rows in tokens."""
        from unlearn_runner.training.batches import StepLoader
        from unlearn_runner.training.fixed_rows import fixed_rows
        from unlearn_runner.training.geffect import BATCH, ZERO
        from unlearn_runner.utils import signals

        rows = fixed_rows(self.seed, forget, retain, self._chosen(), extra)
        if self.mode == "exact":
            reports = [(1, meter.exact(rows))]
        else:
            loader = StepLoader("forget", forget, BATCH, self.seed, retain, extra)
            batches = range(max(1, len(forget) // BATCH))
            reports = meter.ema(loader.step(number) for number in batches)
        passed = meter.rows_passed
        samples = self._samples(meter, rows) if self.per_sample else []
        names = meter.space.names
        groups = dict(zip(names, layer_groups(names, self.boundaries), strict=True))
        ranks, signal = meter.engine.layout.ranks, signals.requested()
        if meter.engine.stop_requested or (ranks.world == 1 and signal):
            raise signals.Interrupted(max(ranks.all_gather(signal or 0)))
        return {
            "step": step,
            "rows_passed": passed,
            "risk_u": meter.losses[self.risks[0].name],
            "risk_r": meter.losses[self.risks[1].name],
            "samples": samples,
            "reports": [
                {
                    "batches": number,
                    "whole": asdict(sum(effects.values(), ZERO)),
                    "tensors": {
                        name: {"group": groups[name], **asdict(effect)}
                        for name, effect in effects.items()
                    },
                }
                for number, effects in reports
            ],
        }

    def _chosen(self) -> tuple[list[int], list[int]]:
        """Returns which forget and which retain rows `exact` takes."""
        from unlearn_runner.training.fixed_rows import sample_rows

        ours, theirs = self.sizes
        forget = sample_rows(self.seed, "forget", len(self.forget), ours or len(self.forget))
        retain = sample_rows(self.seed, "retain", len(self.retain), theirs or len(forget))
        return forget, retain

    def _samples(self, meter: Meter, rows: StepRows) -> list[dict[str, Any]]:
        """Returns the PG-effects of the chosen forget rows, and their weights in the objective."""
        (term, *_), found = self.method.terms(), []
        encoded = zip(self._chosen()[0], rows.splits["forget"], strict=True)
        measured = meter.per_sample(rows)
        for (row, tokens), (logprob, pg_u, pg_r) in zip(encoded, measured, strict=True):
            start = tokens.start_logprob
            before = None if start is None else float(start.sum())
            weight = term.loss.row_weight(logprob, before)
            found.append(
                {
                    "row": row,
                    "logprob": logprob,
                    "start_logprob": before,
                    "weight": None if weight is None else term.weight * weight,
                    "pg_u": pg_u,
                    "pg_r": pg_r,
                }
            )
        return found

    def _facts(self) -> dict[str, Any]:
        """Returns what the numbers are of."""
        forget, retain = self._chosen()
        return {
            "models": f"{self.trajectory.kind}/{self.trajectory.key}",
            "objective": type(self.method).__name__,
            "risk": type(self.risks[0].loss).__name__,
            "mode": self.mode,
            "forget_rows": forget if self.mode == "exact" else len(self.forget),
            "retain_rows": retain if self.mode == "exact" else "partners",
        }


def _line(found: dict[str, Any]) -> dict[str, Any]:
    """Returns a model's line of telemetry."""
    whole = found["reports"][-1]["whole"]
    return {**{name: whole[name] for name in ("e_u", "e_r")}, **{n: found[n] for n in FACTS}}


def risks_of(name: str) -> tuple[Term, Term]:
    """Returns the terms of the risks of forget and of retain rows."""
    loss = RISKS[name]
    return Term("risk_forget", "forget", loss), Term("risk_retain", "retain", loss)
