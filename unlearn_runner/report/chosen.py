"""A sweep's selection, read back: which runs were selected, and what is said of their scores."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unlearn_runner.errors import DataError
from unlearn_runner.report.read import RunFolder

FILE = "selection.json"
VALIDATION, TEST, ALL = "A", "B", "all"
HEADS = {
    VALIDATION: "part A (selected on)",
    TEST: "part B (held out)",
    ALL: "all rows (partly selected on)",
}
"""What a selected setting's scores are called, wherever they are shown."""


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
        """The winner: its axes, its points, its scores by column; none where there is none."""
        return self.content["selected"]

    @property
    def reasons(self) -> list[str]:
        """Why the others could not win."""
        found = (setting["why_not"] for setting in self.content["settings"])
        return list(dict.fromkeys(why for why in found if why))

    def holds(self, run: RunFolder) -> bool:
        """Returns whether a run is a point of the winner."""
        points = self.selected["points"] if self.selected else ()
        return run.path.resolve().parent == self.folder and run.name in points

    def missing(self, runs: Sequence[RunFolder]) -> int:
        """Returns how many runs of its folder the selection did not look at."""
        mine = [run.name for run in runs if run.path.resolve().parent == self.folder]
        return sum(name not in self.content["points"] for name in mine)


def selections(runs: Sequence[RunFolder]) -> list[Chosen]:
    """Returns the selections of the sweeps that the runs are of.

    Raises:
        DataError: If one cannot be read.
    """
    found = []
    for folder in dict.fromkeys(run.path.resolve().parent for run in runs):
        path = folder / FILE
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            shape = [content[key] for key in ("criterion", "selected", "settings", "points")]
        except FileNotFoundError:
            continue
        except (OSError, ValueError, LookupError, TypeError) as error:
            raise DataError(
                f"{path} cannot be read: {error}", "repeat the sweep's command: it is written anew"
            ) from None
        if shape:
            found.append(Chosen(folder, content))
    return found
