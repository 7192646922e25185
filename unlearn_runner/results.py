"""What a run leaves for people: `results.json` and the table at the end."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from rich.table import Table

from unlearn_runner.config import Run
from unlearn_runner.divergence import last_finite
from unlearn_runner.job import command
from unlearn_runner.pipeline import Done
from unlearn_runner.plan import Plan
from unlearn_runner.progress import results_console
from unlearn_runner.records import versions
from unlearn_runner.stages import score
from unlearn_runner.store import Store

Scores = dict[str, float | None]

# Which way is better; a forget view's probability and ROUGE are to fall, the rest is to rise.
LOWER = ("forget.probability", "forget.rouge_l", "forget_quality_ks")
ALONG = ("model_utility", "forget_quality", "forget", "retain")
MOST_ALONG = 20  # rows; results.json has them all


def scores(plan: Plan, store: Store, done: Iterable[Done]) -> dict[str, Scores]:
    """Returns the scores of "unlearned", "target" and "reference"; empty where one diverged."""
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


def flat(by_model: dict[str, Scores]) -> Scores:
    """Returns one mapping: the unlearned model's scores bare, the others' under a prefix."""
    return {
        (key if model == "unlearned" else f"{model}.{key}"): value
        for model in ("unlearned", "target", "reference")
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
    run: Run, plan: Plan, name: str, config_hash: str, done: list[Done], flat_scores: Scores
) -> dict[str, Any]:
    """Returns what `results.json` holds."""
    return {
        "status": status(done),
        **({"divergence": found} if (found := divergence(done)) else {}),
        "name": name,
        "scores": flat_scores,
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
            "given": given(plan),
            "benchmark_version": run.benchmark.version,
            "python": sys.version.split()[0],
            "versions": versions(),
            "commit": commit(),
        },
    }


def given(plan: Plan) -> dict[str, str]:
    """Returns what the run was given instead of making it: by label, what and which."""
    found = {s.label: f"{s.reads()} ({s.kind}/{s.key})" for s in plan.stages if s.given}
    if plan.log is not None:
        found["reference log"] = f"{plan.log.path} (sha256 {plan.log.digest}...)"
    return found


def commit() -> str | None:
    """Returns the git commit of the code, marked when the tree differs from it."""
    root = Path(__file__).resolve().parent.parent
    git = ["git", "-C", str(root)]
    try:
        head = subprocess.run(
            [*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True
        )
        diff = subprocess.run([*git, "status", "--porcelain"], capture_output=True, text=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return head.stdout.strip() + ("+changes" if diff.stdout.strip() else "")


def print_table(by_model: dict[str, Scores], title: str) -> None:
    """Prints target, unlearned and reference side by side, each metric with its direction."""
    if not any(by_model.values()):
        print(title)
        return
    table = Table(title=title, title_justify="left", title_style="bold")
    table.add_column("metric")
    table.add_column("better", justify="center")
    models = [name for name in ("target", "unlearned", "reference") if name in by_model]
    for model in models:
        table.add_column(model, justify="right")
    views = ""
    for key in ordered(by_model.get("target", {})):
        view = key.partition(".")[0] if "." in key else ""
        if view != views:
            table.add_section()
            views = view
        arrow = "lower" if key in LOWER else "higher"
        cells = (shown(by_model[m].get(key)) for m in models)
        table.add_row(key, arrow, *cells)
    results_console().print(table)


def print_divergence(found: dict[str, Any]) -> None:
    """Prints why a run ended early."""
    if found:
        print(f"diverged {found['stage']}: {found.get('cause', 'no cause recorded')}")
        if last := last_finite(found):
            print(f"         {last}")


def print_along(along: list[dict[str, Any]], last: Scores) -> None:
    """Prints what changed step by step: the whole, and what was to be forgotten and retained."""
    if not along:
        return
    names = [n for n in ordered(along[0]["scores"]) if n.partition(".")[0] in ALONG]
    table = Table(title="along the way", title_justify="left", title_style="bold")
    table.add_column("step", justify="right")
    for name in names:
        table.add_column(_folded(name), justify="right")
    apart = -(-len(along) // MOST_ALONG)
    for number, point in enumerate(along, 1):
        if number % apart == 0:
            table.add_row(f"{point['step']}", *(shown(point["scores"].get(n)) for n in names))
    table.add_row("end", *(shown(last.get(n)) for n in names))
    results_console().print(table)


def _folded(name: str) -> str:
    """Returns a name in two lines, for the head of a column."""
    return name.replace(".", "\n") if "." in name else name.replace("_", "\n", 1)


def ordered(names: Iterable[str]) -> list[str]:
    """Returns names of scores: of the whole first, then view by view."""
    names = list(names)
    views = list(dict.fromkeys(n.partition(".")[0] for n in names if "." in n))
    by_view = [n for view in views for n in names if n.startswith(f"{view}.")]
    return [n for n in names if "." not in n] + by_view


def shown(value: float | None) -> str:
    """Returns a score as tables print it."""
    if value is None:
        return "-"
    return f"{value:.4f}" if value == 0 or abs(value) >= 1e-3 else f"{value:.2e}"
