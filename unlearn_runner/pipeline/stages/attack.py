"""Attacks on a model: its weights changed in one go; and the verdict on all five evaluations."""

from __future__ import annotations

import json
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, ClassVar

from unlearn_runner.evaluation.attacks.base import Attack
from unlearn_runner.evaluation.metrics.base import Metric
from unlearn_runner.evaluation.metrics.evidence import Evidence
from unlearn_runner.evaluation.metrics.parts import part
from unlearn_runner.evaluation.schema import View
from unlearn_runner.pipeline.stages.base import Stage, StageContext
from unlearn_runner.store.artifact import Outcome
from unlearn_runner.utils.files import finite, write_json

VERDICT = "verdict.json"
SHARES = ("recovered", "control", "excess")


@dataclass(frozen=True)
class ChangeWeights(Stage):
    """A model with its weights changed as an attack does it."""

    model: Stage
    attack: Attack

    kind: ClassVar[str] = "attack"
    order: ClassVar[int] = 1
    on_all_ranks: ClassVar[bool] = False

    def run(self, context: StageContext) -> Outcome:
        """Loads, changes, saves."""
        from unlearn_runner.models.load import load_model, load_tokenizer, save

        folder, session = context.path(self.model), context.open_session()
        model = load_model(folder, "float32", session.device)
        self.attack.change(model)
        save(model, load_tokenizer(folder), context.folder)
        return "completed"


@dataclass(frozen=True)
class Verdict(Stage):
    """What an attack brought back, beside what it taught the retain model."""

    target: Stage
    unlearned: Stage
    attacked: Stage
    retain_model: Stage | None
    attacked_retain_model: Stage | None
    attack: Attack
    trains: bool
    """Whether the attack is a training."""
    views: dict[str, View]
    """Of rows to be forgotten."""
    rows: dict[str, tuple[int, ...]]
    """By view, the rows that are judged: those that the attack did not train on alone, if any."""
    metrics: dict[str, Metric]
    version: str
    units: dict[str, tuple[int, ...]]

    kind: ClassVar[str] = "verdict"
    order: ClassVar[int] = 3
    on_all_ranks: ClassVar[bool] = False

    def run(self, context: StageContext) -> Outcome:
        """Writes `verdict.json`, and one line of telemetry with its shares."""
        from unlearn_runner.evaluation.attacks.verdict import Model, judge

        models: dict[Model, Stage | None] = {
            "target": self.target,
            "unlearned": self.unlearned,
            "attacked": self.attacked,
            "retain_model": self.retain_model,
            "attacked_retain_model": self.attacked_retain_model,
        }
        evidence: dict[Model, Evidence] = {
            name: part(Evidence.load(context.path(stage), self.views), self.rows)
            for name, stage in models.items()
            if stage is not None
        }
        found = judge(evidence, self.units, self.metrics, self.trains)
        model = self.unlearned.inputs[0]
        content = {
            "attack": type(self.attack).__name__.lower(),
            "settings": changed(self.attack),
            "models": f"{model.kind}/{model.key}",
            "rows": sum(map(len, self.rows.values())),
            "scores": found,
        }
        write_json(context.folder / VERDICT, finite(content))
        shares = ((f"{one['score']}.{key}", one[key]) for one in found for key in SHARES)
        line = {
            f"{name}{'' if end == 'value' else f'_{end}'}": value
            for name, share in shares
            if share is not None
            for end, value in share.items()
        }
        context.log({"stage": self.label, "step": 1, **finite(line)})
        return "completed"

    def facts(self, folder: Path) -> dict[str, Any]:
        """Returns the verdict."""
        return json.loads((folder / VERDICT).read_text(encoding="utf-8"))

    def closing(self, last: dict[str, Any]) -> str | None:
        """Says how much of the first score came back, and whether that is more than the control."""
        name = next((key for key in last if key.endswith(".recovered")), None)
        if name is None:
            return f"{self.label}: nothing had been forgotten that could come back"
        score = name.removesuffix(".recovered")
        control, low = last.get(f"{score}.control"), last.get(f"{score}.excess_low")
        told = f"{self.label}: {last[name]:.0%} of the forgotten {score} came back"
        if control is None or low is None:
            return f"{told}; no retain model was attacked to compare with"
        verdict = "more" if low > 0 else "less" if last[f"{score}.excess_high"] < 0 else "no more"
        return (
            f"{told}, {control:.0%} to the retain model: {verdict} than the attack itself teaches"
        )


def changed(attack: Attack) -> dict[str, Any]:
    """Returns the settings of an attack that are not its class's defaults."""
    values = {item.name: (getattr(attack, item.name), item.default) for item in fields(attack)}
    return {name: value for name, (value, default) in values.items() if value != default}
