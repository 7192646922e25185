"""Overview: how the runs ended, what makes a comparison doubtful, and what all have in common."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from unlearn_runner.evaluation.metrics.scores import COLLAPSED, SEEDS
from unlearn_runner.report.compare import Comparison, choices, how_they_ended, number
from unlearn_runner.report.run_folder import RunFolder
from unlearn_runner.tracking.divergence import last_finite
from unlearn_runner.utils.files import leaves

PER_RUN = ("config_hash",)
"""Facts of provenance that differ from run to run by their nature."""


def overview(compared: Comparison) -> list[str]:
    """Returns in a few sentences what was run and how it ended."""
    runs = compared.runs
    of = f" of {choices(runs[0])}" if compared.alike else ""
    all_runs = f"{len(runs)} {'run' if len(runs) == 1 else 'runs'}{of}"
    parts = [f"{all_runs}: {how_they_ended(runs)}."]
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


def facts(runs: Sequence[RunFolder]) -> list[tuple[str, str, list[int]]]:
    """Returns provenance, a line per value: name, value, and whose it is unless all runs agree."""
    known = {
        run.number: {k: v for k, v in leaves(run.provenance) if not isinstance(v, Mapping)}
        for run in runs
        if run.provenance
    }
    found: list[tuple[str, str, list[int]]] = []
    for name in dict.fromkeys(name for flat in known.values() for name in flat):
        if name in PER_RUN or name.startswith(("seeds.", "choices.")):
            continue
        by_value: dict[str, list[int]] = {}
        for run, flat in known.items():
            value = number(flat[name]) if name in flat else "not recorded"
            by_value.setdefault(value, []).append(run)
        alike = len(by_value) == 1
        found += [(name, value, [] if alike else holders) for value, holders in by_value.items()]
    return found


def shared_settings(runs: Sequence[RunFolder]) -> dict[str, str]:
    """Returns the settings that all runs have in common."""
    found = [run.settings for run in runs if run.settings] or [{}]
    return {
        key: number(value)
        for key, value in found[0].items()
        if all(key in settings and settings[key] == value for settings in found)
    }


def listed(numbers: Sequence[int]) -> str:
    """Returns numbers as people list them: 1-4, 7."""
    spans: list[list[int]] = []
    for n in sorted(numbers):
        if spans and n == spans[-1][1] + 1:
            spans[-1][1] = n
        else:
            spans.append([n, n])
    return ", ".join(f"{a}" if a == b else f"{a}–{b}" for a, b in spans)
