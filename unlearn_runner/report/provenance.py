"""Provenance: what is the same for all runs, and in what they differ."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from unlearn_runner.report.compare import number
from unlearn_runner.report.run_folder import RunFolder
from unlearn_runner.utils.nested import leaves

PER_RUN = ("config_hash",)
"""Facts that differ from run to run by their nature."""


@dataclass(frozen=True)
class Fact:
    """One thing known of runs."""

    name: str
    value: str
    runs: tuple[int, ...] = ()
    """Which runs it holds for; empty for all."""


def facts(runs: Sequence[RunFolder]) -> list[Fact]:
    """Returns provenance, a line per value: one where all runs agree, several where not."""
    known = {run.number: _flat(run.provenance) for run in runs if run.provenance}
    found = []
    for name in dict.fromkeys(name for flat in known.values() for name in flat):
        if name in PER_RUN or name.startswith(("seeds.", "choices.")):
            continue
        by_value: dict[str, list[int]] = {}
        for run, flat in known.items():
            by_value.setdefault(flat.get(name, "not recorded"), []).append(run)
        for value, holders in by_value.items():
            found.append(Fact(name, value, () if len(by_value) == 1 else tuple(holders)))
    return found


def _flat(content: Mapping[str, Any]) -> dict[str, str]:
    return {k: number(v) for k, v in leaves(content) if not isinstance(v, Mapping)}


def shared_settings(runs: Sequence[RunFolder]) -> dict[str, str]:
    """Returns the settings that all runs have in common."""
    found = [run.settings for run in runs if run.settings]
    if not found:
        return {}
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
