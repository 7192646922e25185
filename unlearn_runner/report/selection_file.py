"""Selection of a sweep, read back: the winner, its scores and the names of their columns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unlearn_runner.report.run_folder import RunFolder
from unlearn_runner.report.schema import is_score
from unlearn_runner.utils.untrusted import UntrustedError, clean, read_json

FILE = "selection.json"
VALIDATION, TEST, ALL = "validation", "test", "all"
LABELS = {
    VALIDATION: "validation part (selected on)",
    TEST: "test part (held out)",
    ALL: "all rows (partly selected on)",
}
"""Labels of a selected setting's scores, wherever they are shown."""
EARLIER = {"A": VALIDATION, "B": TEST}
"""Names of the parts in files of an earlier release, which also called jobs points."""


@dataclass(frozen=True)
class Chosen:
    """The selection of one sweep folder."""

    folder: Path
    content: dict[str, Any]
    """As `_check` has found it."""

    @property
    def selected(self) -> dict[str, Any] | None:
        """The winner: its axes, its jobs, its scores by column; none where there is none."""
        return self.content["selected"]

    def holds(self, run: RunFolder) -> bool:
        """Returns whether a run is a job of the winner."""
        jobs = self.selected["jobs"] if self.selected else ()
        return run.path.resolve().parent == self.folder and run.name in jobs

    def missing(self, runs: Sequence[RunFolder]) -> int:
        """Returns how many runs of its folder the selection does not know."""
        mine = [run.name for run in runs if run.path.resolve().parent == self.folder]
        return sum(name not in self.content["jobs"] for name in mine)


def setting_name(axes: dict[str, str]) -> str:
    """Returns what a setting is called: its place on the axes of its sweep."""
    return ", ".join(f"{key}={value}" for key, value in axes.items()) or "the only setting"


def in_todays_words(content: dict[str, Any]) -> dict[str, Any]:
    """Returns a selection of an earlier release with the keys of today."""
    if "points" not in content:
        return content
    content["jobs"] = content.pop("points")
    for setting in content["settings"]:
        setting.setdefault("jobs", setting.pop("points", []))
    if selected := content.get("selected"):
        selected["jobs"] = selected.pop("points")
        selected["scores"] = {
            name: {EARLIER.get(part, part): value for part, value in columns.items()}
            for name, columns in selected["scores"].items()
        }
    return content


def _check(content: dict[str, Any]) -> None:
    """Refuses a selection that no sweep wrote."""
    criterion, selected = content["criterion"], content["selected"]
    texts = [criterion["stated"], *content["jobs"]]
    texts += [why for s in content["settings"] if (why := s["why_not"]) is not None]
    if selected is not None:
        texts += [*selected["jobs"], *selected["axes"].values()]
        for columns in selected["scores"].values():
            for mean, half in (columns[column] for column in LABELS):
                if not (is_score(mean) and is_score(half)):
                    raise UntrustedError("a score is no number")
    if not (isinstance(content["jobs"], dict) and all(isinstance(text, str) for text in texts)):
        raise UntrustedError("it is not as a sweep writes it")
    criterion["peek"]


def selections(runs: Sequence[RunFolder]) -> tuple[list[Chosen], list[str]]:
    """Returns the selections of the sweeps that the runs are of, and what is wrong with others."""
    found: list[Chosen] = []
    problems: list[str] = []
    for folder in dict.fromkeys(run.path.resolve().parent for run in runs):
        path = folder / FILE
        try:
            content = in_todays_words(read_json(path))
            _check(content)
            found.append(Chosen(folder, content))
        except FileNotFoundError:
            continue
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            problem = f"{path} cannot be read: {error}; the sweep's command writes it anew"
            problems.append(clean(problem))
    return found, problems
