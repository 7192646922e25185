"""Stages of an attack: on the unlearned model, on the retain model, and the verdict on both."""

from __future__ import annotations

import json
import shutil
import zlib
from collections.abc import Mapping
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

from unlearn_runner.config.root import Run
from unlearn_runner.data.rows import Rows
from unlearn_runner.errors import ConfigError
from unlearn_runner.evaluation.attacks.base import Attack
from unlearn_runner.evaluation.evaluator import Evaluator
from unlearn_runner.evaluation.schema import View
from unlearn_runner.pipeline.inputs import Inputs
from unlearn_runner.pipeline.stages.attack import VERDICT, ChangeWeights, Verdict, changed
from unlearn_runner.pipeline.stages.base import Stage
from unlearn_runner.pipeline.stages.evaluate import Evaluate
from unlearn_runner.pipeline.stages.finetune import Finetune
from unlearn_runner.pipeline.stages.merge import Merge


def verdict_stage(
    run: Run,
    inputs: Inputs,
    evaluator: Evaluator,
    evaluated: Mapping[str, Evaluate],
    bases: Mapping[str, Stage],
    scoring: Mapping[str, Any],
) -> Verdict:
    """Returns the verdict on `run.attack`, with the attacked models that it reads.

    Args:
        run: The run.
        inputs: What it is given.
        evaluator: What is measured of the models that are not attacked.
        evaluated: The stages that evaluate those, by what the run calls the model.
        bases: What an adapter among the models belongs to.
        scoring: What evidence is scored with.

    Raises:
        ConfigError: If the attack has nothing to act on.
    """
    splits, attack = inputs.rowsets.splits, run.attack
    views = {n: view for n, (view, _) in inputs.rowsets.views.items() if view.goal == "forget"}
    _refuse(run, attack, views)
    training = attack.training(splits)
    how = attack.evaluator(evaluator.of_views(views), splits)

    def attacked(name: str) -> Stage:
        before = evaluated[name]
        before = before.further_to or before  # what a larger suite adds is of unseen rows
        model, base = before.model, bases.get(name)
        if base is not None and (training is not None or attack.changes_weights):
            model, base = Merge(f"{name} merged", base, model), None
        if training is not None:
            recipe = replace(
                run.target.train,
                **{f.name: getattr(training, f.name) for f in fields(training) if f.name != "rows"},
                steps=None,
                warmup_epochs=0.0,
                warmup_steps=None,
            )
            label, template = f"attack {name}", run.model.template
            model = Finetune(label, template, training.rows, recipe, run.seed, model)
        if attack.changes_weights:
            model = ChangeWeights(f"attack {name}", model, attack)
        label = f"evaluate attacked {name}"
        return replace(before, label=label, model=model, evaluator=how, base=base, further_to=None)

    told = {row.identity for row in training.rows} if training is not None else set()
    rows = {name: _untold(inputs.rowsets.views[name][1], told) for name in views}
    retain = evaluated.get("retain_model")
    return Verdict(
        f"attack {describe(attack)}",
        evaluated["target"],
        evaluated["unlearned"],
        attacked("unlearned"),
        retain,
        attacked("retain_model") if retain is not None else None,
        attack,
        training is not None,
        views,
        rows,
        run.benchmark.metrics,
        run.benchmark.version,
        {name: scoring["units"][name] for name in views},
    )


def _untold(rows: Rows, told: set[tuple[str, ...]]) -> tuple[int, ...]:
    """Returns the rows that an attack has not trained on; all where it has trained on all."""
    found = tuple(i for i, row in enumerate(rows) if row.identity not in told)
    return found or tuple(range(len(rows)))


def _refuse(run: Run, attack: Attack, views: Mapping[str, View]) -> None:
    if not views:
        raise ConfigError(
            "attack: this benchmark has no view of rows to be forgotten to judge by", "attack=none"
        )
    free = run.benchmark.asks and not any("choices" in view.probes for view in views.values())
    if attack.asks_otherwise and not free:
        raise ConfigError(
            f"attack: {type(attack).__name__} asks questions otherwise, and the rows of this "
            "benchmark are no free questions",
            "attack=relearn, or nf4",
        )
    if attack.tells_rows and run.benchmark.sees:
        raise ConfigError(
            f"attack: {type(attack).__name__} tells other rows as text, and the questions of this "
            "benchmark are about pictures",
            "attack=paraphrase, or relearn",
        )


def describe(attack: Attack) -> str:
    """Returns an attack in words: its class, and the settings that are not the class's defaults."""
    given = ", ".join(f"{name}={value}" for name, value in changed(attack).items())
    return type(attack).__name__.lower() + (f" ({given})" if given else "")


def copy_verdict(attack: Attack, artifact: Path, folder: Path) -> Path:
    """Copies a verdict from its artifact into a run folder; returns the file."""
    place = folder / file_name(attack)
    shutil.copyfile(artifact / VERDICT, place)
    return place


def file_name(attack: Attack) -> str:
    """Returns the name of an attack's file, the same whatever code judges it."""
    settings = zlib.crc32(json.dumps(asdict(attack), sort_keys=True).encode())
    return f"attack-{type(attack).__name__.lower()}-{settings & 0xFFFF:04x}.json"
