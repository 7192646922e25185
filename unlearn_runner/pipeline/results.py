"""What a run leaves for people: `results.json` and the table at the end."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from typing import Any

from unlearn_runner.evaluation.metrics.scores import Directions, Scores
from unlearn_runner.pipeline.execute import Done
from unlearn_runner.pipeline.job import PlannedJob
from unlearn_runner.pipeline.plan import Plan
from unlearn_runner.pipeline.stages import score
from unlearn_runner.store.store import Store
from unlearn_runner.tracking.provenance import commit, versions
from unlearn_runner.utils.process import command


def scores(plan: Plan, store: Store, done: Iterable[Done]) -> dict[str, Scores]:
    """Returns the scores of "unlearned", "target" and "retain_model"; empty where one diverged."""
    ended = {item.stage.key: item.outcome for item in done}
    found: dict[str, Scores] = {}
    for name, stage in plan.scores.items():
        complete = ended[stage.key] == "completed"
        found[name] = score.read(store.path(stage)) if complete else {}
    names = [key for by_model in found.values() for key in by_model]
    return {
        model: {key: by_model.get(key) for key in dict.fromkeys(names)}
        for model, by_model in found.items()
    }


def directions(plan: Plan, store: Store, done: Iterable[Done]) -> Directions:
    """Returns "lower" or "higher", whichever is better, by score name."""
    completed = {item.stage.key for item in done if item.outcome == "completed"}
    stages = [stage for stage in plan.scores.values() if stage.key in completed]
    found = (score.read(store.path(stage), score.DIRECTIONS) for stage in stages)
    return {name: better for by_name in found for name, better in by_name.items()}


def flat(by_model: dict[str, Scores]) -> Scores:
    """Returns one mapping: the unlearned model's scores bare, the others' under a prefix."""
    return {
        (key if model == "unlearned" else f"{model}.{key}"): value
        for model in ("unlearned", "target", "retain_model")
        if model in by_model
        for key, value in by_model[model].items()
    }


def status(done: Iterable[Done]) -> str:
    """Returns how the run as a whole ended."""
    return "completed" if all(item.outcome == "completed" for item in done) else "diverged"


def divergence(done: Iterable[Done]) -> dict[str, Any]:
    """Returns which stage diverged and what is known of it; empty where none did."""
    found = next((item for item in done if item.outcome == "diverged"), None)
    return {"stage": found.stage.label, **found.divergence} if found is not None else {}


def content(
    job: PlannedJob, config_hash: str, done: list[Done], flat_scores: Scores
) -> dict[str, Any]:
    """Returns what `results.json` holds."""
    run = job.run
    return {
        "status": status(done),
        **({"divergence": found} if (found := divergence(done)) else {}),
        "name": job.folder.name,
        "scores": flat_scores,
        "directions": directions(job.plan, job.store, done),
        "stages": [
            {
                "name": item.stage.label,
                "kind": item.stage.kind,
                "key": item.stage.key,
                "cached": item.cached,
                "needed": item.needed,
                "seconds": round(item.seconds, 3),
                "outcome": item.outcome,
            }
            for item in done
        ],
        "provenance": {
            "command": command(),
            "config_hash": config_hash,
            "seeds": {"seed": run.seed, "target.seed": run.target.seed},
            "ranks": 1,
            "threads": run.parallel.threads or len(os.sched_getaffinity(0)),
            "given": given(job.plan),
            "benchmark_version": run.benchmark.version,
            "python": sys.version.split()[0],
            "versions": versions(),
            "commit": commit(),
            "choices": job.composed.choices,
        },
    }


def given(plan: Plan) -> dict[str, str]:
    """Returns what the run was given instead of making it: by label, what and which."""
    found = {s.label: f"{s.reads()} ({s.kind}/{s.key})" for s in plan.stages if s.given}
    if (log := plan.inputs.retain_log) is not None:
        found["retain log"] = f"{log.path} (sha256 {log.digest}...)"
    return found
