"""Results of a run: its scores, and what `results.json` holds."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

from unlearn_runner.evaluation.metrics.scores import Scores
from unlearn_runner.pipeline.execute import StageResult
from unlearn_runner.pipeline.job import PlannedJob
from unlearn_runner.pipeline.plan import Plan
from unlearn_runner.pipeline.stages import score_files as score
from unlearn_runner.pipeline.stages.stop import STOPPED
from unlearn_runner.store.store import Store
from unlearn_runner.tracking.folder import METRICS, last_by_step
from unlearn_runner.tracking.provenance import commit, device, versions
from unlearn_runner.utils.process import command

T = TypeVar("T")


def _read(
    plan: Plan, store: Store, results: Iterable[StageResult], file: str
) -> dict[str, dict[str, Any]]:
    """Returns a file of each score stage by its model; nothing where one diverged."""
    done = {result.stage.key for result in results if result.outcome == "completed"}
    return {
        name: score.read(store.path(stage), file) if stage.key in done else {}
        for name, stage in plan.scores.items()
    }


def scores(plan: Plan, store: Store, results: Iterable[StageResult]) -> dict[str, Scores]:
    """Returns the scores of each model of a plan; empty where one diverged."""
    by_model = _read(plan, store, results, score.SCORES)
    names = dict.fromkeys(name for found in by_model.values() for name in found)
    return {model: {name: s.get(name) for name in names} for model, s in by_model.items()}


def flat(by_model: Mapping[str, dict[str, T]]) -> dict[str, T]:
    """Returns one mapping: scores of what the run is about bare, the others' under a prefix."""
    return {
        (key if model in ("unlearned", "model") else f"{model}.{key}"): value
        for model in ("unlearned", "model", "target", "calibrated", "retain_model")
        if model in by_model
        for key, value in by_model[model].items()
    }


def divergence(results: Iterable[StageResult]) -> dict[str, Any]:
    """Returns which stage diverged and what is known of it; empty where none did."""
    at = next((result for result in results if result.outcome == "diverged"), None)
    return {"stage": at.stage.label, **at.divergence} if at is not None else {}


def stopped(job: PlannedJob, results: Iterable[StageResult], flat_scores: Scores) -> dict[str, Any]:
    """Returns after which step `train.stop` held, the last one included; empty where it did not."""
    for result in results:
        path = job.store.path(result.stage) / STOPPED
        if result.stage.kind == "unlearn" and result.outcome == "completed" and path.is_file():
            return json.loads(path.read_text(encoding="utf-8"))
    return _held_at_last(job, flat_scores)


def _held_at_last(job: PlannedJob, flat_scores: Scores) -> dict[str, Any]:
    """Returns the same of the last step, which is scored at the end, where its rules hold then."""
    train, rules = job.run.train, job.run.train.stop_rules
    names = [name for name in flat_scores if name.startswith("target.")]
    start = {name.removeprefix("target."): flat_scores[name] for name in names}
    scored = all(flat_scores.get(rule.metric) is not None for rule in rules)
    if not rules or job.run.method.one_shot or not scored:
        return {}
    if not all(rule.holds(flat_scores, start) for rule in rules):
        return {}
    rows = len(job.plan.inputs.rowsets.splits.forget)
    step = train.num_steps(rows)
    return {
        "step": step,
        "epochs": step * train.batch_size / rows,
        "scores": {rule.metric: flat_scores[rule.metric] for rule in rules},
        "bounds": {rule.metric: rule.limit(start) for rule in rules},
    }


NO_RETAIN_MODEL = (
    "target.path is model.path: a retain model made of it would know the forget rows, so there is "
    "none, and no score or attack is compared with it; retain_model.path=FOLDER gives one"
)


def notes(job: PlannedJob, results: Iterable[StageResult], facts: Mapping[str, Any]) -> list[str]:
    """Returns what the stages have to say of the run, now that it has ended.

    `facts` are those of `stopped`.
    """
    found = [NO_RETAIN_MODEL] if job.plan.inputs.knows_from_base else []
    for result in results:
        if result.outcome == "completed" and not result.stage.given:
            lines = last_by_step(job.store.path(result.stage) / METRICS)
            note = result.stage.closing(json.loads(lines[-1])) if lines else None
            found += [note] if note else []
    if facts:
        scores = ", ".join(
            f"{name} {value:.4g} (bound {facts['bounds'][name]:.4g})"
            for name, value in facts["scores"].items()
        )
        found.append(
            f"stopped after step {facts['step']}, {facts['epochs']:.4g} epochs to forget: {scores}"
        )
    elif job.run.train.stop_rules and not job.run.method.one_shot:
        found.append("train.stop: its bounds were not reached by the last step")
    return found


def content(job: PlannedJob, results: list[StageResult], flat_scores: Scores) -> dict[str, Any]:
    """Returns what `results.json` holds."""
    run = job.run
    better = _read(job.plan, job.store, results, score.DIRECTIONS)
    completed = all(result.outcome == "completed" for result in results)
    return {
        "status": "completed" if completed else "diverged",
        **({"divergence": facts} if (facts := divergence(results)) else {}),
        **({"stopped": end} if (end := stopped(job, results, flat_scores)) else {}),
        **({"notes": said} if (said := notes(job, results, end)) else {}),
        "name": job.folder.name,
        "scores": flat_scores,
        "directions": {name: way for found in better.values() for name, way in found.items()},
        "intervals": flat(_read(job.plan, job.store, results, score.INTERVALS)),
        "stages": [
            {
                "name": result.stage.label,
                "kind": result.stage.kind,
                "key": result.stage.key,
                "cached": result.cached,
                "needed": result.needed,
                "seconds": round(result.seconds, 3),
                "outcome": result.outcome,
                **_facts(job.store, result),
            }
            for result in results
        ],
        "provenance": {
            "command": command(),
            "config_hash": job.config_hash,
            "seeds": {"seed": run.seed, "target.seed": run.target.seed},
            "ranks": 1,
            "threads": run.parallel.threads or len(os.sched_getaffinity(0)),
            "given": given(job.plan),
            "benchmark_version": run.benchmark.version,
            "python": sys.version.split()[0],
            "versions": versions(),
            "commit": commit(),
            **device(),
            "choices": job.composed.choices,
        },
    }


def _facts(store: Store, result: StageResult) -> dict[str, Any]:
    """Returns what a stage's artifact says of itself, under one name, if anything."""
    if result.outcome != "completed" or not result.needed or result.stage.given:
        return {}
    found = result.stage.facts(store.path(result.stage))
    return {"facts": found} if found else {}


def given(plan: Plan) -> dict[str, str]:
    """Returns what the run was given instead of making it: by label, what and which."""
    by_label = {s.label: f"{s.reads()} ({s.kind}/{s.key})" for s in plan.stages if s.given}
    if (log := plan.inputs.retain_log) is not None:
        by_label["retain log"] = f"{log.path} (sha256 {log.digest}...)"
    return by_label
