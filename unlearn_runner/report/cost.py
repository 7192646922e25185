"""Cost of runs: the seconds of every stage, each artifact counted once."""

from __future__ import annotations

from collections.abc import Sequence

from unlearn_runner.report.run_folder import Ran, RunFolder
from unlearn_runner.store.store import MANIFEST
from unlearn_runner.utils.untrusted import UntrustedError, is_number, read_json

OWN = ("unlearn", "evaluate unlearned", "score unlearned", "score along")
OWN += ("evaluate model", "score model")
OWN += ("evaluate unlearned, default suite", "evaluate model, default suite")
"""The stages that are a run's own; the rest is shared by all runs of one target."""


def seconds(run: RunFolder, ran: Ran) -> float | None:
    """Returns what computing a stage's artifact took; none where nobody can say any more.

    A cached stage's own line only has the time its lookup took; the artifact's manifest knows.
    """
    if ran.outcome is None or not ran.needed:
        return 0.0
    if not ran.cached:
        return ran.seconds
    folder = run.artifact(ran)
    if folder is None:
        return None
    try:
        known = read_json(folder / MANIFEST).get("seconds")
    except (FileNotFoundError, UntrustedError):
        return None
    return float(known) if is_number(known) else None


def own_seconds(run: RunFolder) -> float | None:
    """Returns what unlearning and scoring one run took, without what it shares with others."""
    own = [seconds(run, ran) for ran in run.stages if ran.name in OWN]
    known = [value for value in own if value is not None]
    return sum(known) if known and len(known) == len(own) else None


def spent(runs: Sequence[RunFolder]) -> dict[str, list[float | None]]:
    """Returns the seconds of each artifact, once, by stage in the order in which they ran.

    None is that of one which was cached and whose manifest is gone.
    """
    prices: dict[str, dict[str, float | None]] = {}
    for run in runs:
        for ran in run.stages:
            known = prices.setdefault(ran.name, {})
            if ran.outcome is not None and ran.needed and known.get(ran.key) is None:
                known[ran.key] = seconds(run, ran)
    return {name: list(by_key.values()) for name, by_key in prices.items() if by_key}
