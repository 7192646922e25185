"""Overview: how the runs ended, and what makes a comparison doubtful."""

from __future__ import annotations

from typing import Any

from unlearn_runner.evaluation.metrics.scores import COLLAPSED, SEEDS
from unlearn_runner.report.compare import Comparison, choices, how_they_ended, number
from unlearn_runner.report.provenance import listed
from unlearn_runner.report.run_folder import RunFolder
from unlearn_runner.tracking.divergence import last_finite


def overview(compared: Comparison) -> list[str]:
    """Returns in a few sentences what was run and how it ended."""
    runs = compared.runs
    of = f" of {choices(runs[0])}" if compared.alike else ""
    count = f"{len(runs)} {'run' if len(runs) == 1 else 'runs'}"
    parts = [f"{count}{of}: {how_they_ended(runs)}."]
    if swept := _swept(compared):
        parts.append(f"They differ in {swept}.")
    if count := sum(map(compared.collapsed, runs)):
        limit = f"below {COLLAPSED:.0%} of the target's"
        parts.append(f"{count} collapsed: {compared.axes.utility} {limit}.")
    return parts


def _swept(compared: Comparison) -> str:
    parts = []
    for group in ("benchmark", "method", "rectifier"):
        values = dict.fromkeys(run.choice(group) for run in compared.runs)
        if len(values) > 1:
            parts.append(f"{group} ({', '.join(values)})")
    for key in compared.differing:
        found = (run.settings.get(key) for run in compared.runs)
        values = dict.fromkeys(number(value) for value in found if value is not None)
        few = ", ".join(values) if len(values) <= 8 else f"{len(values)} values"
        parts.append(f"{compared.short[key]} ({few})")
    return "; ".join(parts)


def warnings(compared: Comparison) -> list[str]:
    """Returns what makes a comparison of these runs doubtful."""
    found = []
    targets = {ran.key for run in compared.runs if (ran := run.stage("evaluate target"))}
    if len(targets) > 1 and not any(key in compared.differing for key in SEEDS[1:]):
        found.append(
            f"These runs do not share one target: {len(targets)} different ones were evaluated, so "
            "scores are not of the same start."
        )
    for runs in (runs for setting in compared.settings for runs in setting.by_model):
        if len(runs) > 1:
            numbers = listed([run.number for run in runs])
            found.append(f"Runs {numbers} share one unlearned model, and count as one seed.")
    versions = {run.provenance.get("benchmark_version") for run in compared.runs if run.provenance}
    if len(versions) > 1:
        found.append(f"Benchmark versions differ: {', '.join(sorted(map(str, versions)))}.")
    return found


def troubles(compared: Comparison) -> list[dict[str, Any]]:
    """Returns the runs without scores, each with what its files say about why."""
    without = (r for r in compared.runs if r.status != "completed" or not r.scores)
    return [{"run": run, "why": why(run)} for run in without]


def why(run: RunFolder) -> str:
    """Returns why a run has no scores, as its files have it."""
    if run.status == "diverged":
        found = run.divergence
        parts = [f"{found.get('stage', '')}: {found.get('cause', 'no cause recorded')}"]
        return "; ".join(filter(None, [*parts, last_finite(found)]))
    if run.gone:
        return f"its process {run.facts.get('pid')} is gone; the same command continues it"
    if run.status == "interrupted":
        return f"to continue: {run.facts.get('resume', 'the same command')}"
    if run.status == "failed":
        return str(run.facts.get("error", "no cause recorded"))
    where = run.facts.get("stage", "")
    return f"in {where}" if where else "no results.json"
