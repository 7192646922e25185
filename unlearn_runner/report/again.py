"""What is copied from a report: the command of each run, and the folder of its model."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unlearn_runner.errors import assignment
from unlearn_runner.report.compare import Comparison
from unlearn_runner.report.run_folder import RunFolder
from unlearn_runner.store.store import WEIGHTS
from unlearn_runner.utils.files import leaves
from unlearn_runner.utils.untrusted import clean

SEARCH = "space"
"""Setting of a sweep whose jobs are proposed: one of them is run by itself."""


@dataclass(frozen=True)
class Again:
    """A run's command and the folder of its model, where they are known."""

    run: RunFolder
    command: str = ""
    model: str = ""


def again(compared: Comparison, store: Path | None) -> list[Again]:
    """Returns the command and the model folder of each run that has either."""
    found = [Again(run, _command(run), _model(run, store)) for run in compared.runs]
    return [item for item in found if item.command or item.model]


def _command(run: RunFolder) -> str:
    """Returns the command that makes a run again, or continues it.

    A sweep's command, with one value on each of its axes, is that of one job.
    """
    told = str(run.provenance.get("command", ""))
    try:
        program, *words = shlex.split(told)
    except ValueError:
        return ""
    axes = dict(_axes(run, words))
    if not axes:
        return clean(told)
    sweep = _sweep(run)
    is_search = SEARCH in sweep
    kept = [word for word in words if _key(word) not in axes]
    if is_search:
        kept = [w for w in kept if _key(w).partition(".")[0] not in ("sweep", "name", "cluster")]
    more = [] if is_search or not sweep.get("also") else ["sweep.also=[]"]
    flags = {"-m", "--multirun"} if is_search else set[str]()
    plain = shlex.join([program, *(word for word in kept if word not in flags)])
    return clean(" ".join([plain, *(assignment(k, v) for k, v in axes.items()), *more]))


def _axes(run: RunFolder, words: list[str]) -> Iterator[tuple[str, Any]]:
    """Yields the axes of the sweep that a run is a job of, each with the run's value."""
    sweep = _sweep(run)
    also = sweep.get("also")
    parts = [sweep.get("grid"), sweep.get(SEARCH), *(also if isinstance(also, list) else ())]
    keys = [key for part in parts if isinstance(part, dict) for key in part]
    keys += [_key(word) for word in words if sweep and _is_swept(word)]
    flat = dict(leaves(dict(run.config))) if keys else {}
    chosen = run.provenance.get("choices", {})
    for key in dict.fromkeys(map(str, keys)):
        if key in chosen or key in flat:
            yield key, chosen.get(key, flat.get(key))


def _sweep(run: RunFolder) -> dict[str, Any]:
    """Returns the settings of the sweep that a run is a job of; empty where it is of none."""
    found = run.config.get("sweep")
    is_job = run.path.resolve().parent.parent.name == "sweeps"
    return found if is_job and isinstance(found, dict) else {}


def _key(word: str) -> str:
    return word.lstrip("+").partition("=")[0]


def _is_swept(word: str) -> bool:
    """Whether a word of a sweep's command gives several values: `seed=0,1`, `seed=range(3)`."""
    key, _, value = word.partition("=")
    swept = value.startswith(("range(", "choice(", "interval(", "glob("))
    return not key.startswith("-") and (swept or ("," in value and value[:1] not in "[{'\""))


def _model(run: RunFolder, store: Path | None) -> str:
    """Returns the folder of a run's unlearned model, where it still has its weights."""
    ran = run.stage("unlearn")
    found = None if ran is None or ran.outcome != "completed" else run.artifact(ran, store)
    return "" if found is None or not any(found.glob(WEIGHTS)) else clean(str(found))
