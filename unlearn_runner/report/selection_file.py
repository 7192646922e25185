"""Selection of a sweep, read back: the winner, its scores and the names of their columns."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unlearn_runner.errors import DataError
from unlearn_runner.report.run_folder import RunFolder

FILE = "selection.json"
VALIDATION, TEST, ALL = "validation", "test", "all"
HEADS = {
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

    @property
    def stated(self) -> str:
        """The criterion in words."""
        return str(self.content["criterion"]["stated"])

    @property
    def selected(self) -> dict[str, Any] | None:
        """The winner: its axes, its jobs, its scores by column; none where there is none."""
        return self.content["selected"]

    @property
    def reasons(self) -> list[str]:
        """Why the others could not win."""
        found = (setting["why_not"] for setting in self.content["settings"])
        return list(dict.fromkeys(why for why in found if why))

    def holds(self, run: RunFolder) -> bool:
        """Returns whether a run is a job of the winner."""
        jobs = self.selected["jobs"] if self.selected else ()
        return run.path.resolve().parent == self.folder and run.name in jobs

    def missing(self, runs: Sequence[RunFolder]) -> int:
        """Returns how many runs of its folder the selection does not know."""
        mine = [run.name for run in runs if run.path.resolve().parent == self.folder]
        return sum(name not in self.content["jobs"] for name in mine)


def in_todays_words(content: Any) -> Any:
    """Returns a selection of an earlier release with the keys of today."""
    if not isinstance(content, dict) or "points" not in content:
        return content
    content["jobs"] = content.pop("points")
    if selected := content.get("selected"):
        selected["jobs"] = selected.pop("points")
        selected["scores"] = {
            name: {EARLIER.get(part, part): value for part, value in columns.items()}
            for name, columns in selected["scores"].items()
        }
    return content


def selections(runs: Sequence[RunFolder]) -> list[Chosen]:
    """Returns the selections of the sweeps that the runs are of.

    Raises:
        DataError: If one cannot be read.
    """
    found = []
    for folder in dict.fromkeys(run.path.resolve().parent for run in runs):
        path = folder / FILE
        try:
            content = in_todays_words(json.loads(path.read_text(encoding="utf-8")))
            shape = [content[key] for key in ("criterion", "selected", "settings", "jobs")]
        except FileNotFoundError:
            continue
        except (OSError, ValueError, LookupError, TypeError) as error:
            raise DataError(
                f"{path} cannot be read: {error}", "repeat the sweep's command: it is written anew"
            ) from None
        if shape:
            found.append(Chosen(folder, content))
    return found
