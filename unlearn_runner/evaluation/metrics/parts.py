"""Two parts of the evaluated rows, and the evidence of a part: to select on one, report the other.

Rows that belong together (the questions about one author, in every view that asks them) are in one
part. A metric of a part is the same function as of all rows, on the evidence of its rows.
"""

from __future__ import annotations

import random
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace

from unlearn_runner.data.rows import Rows
from unlearn_runner.evaluation.metrics.evidence import Evidence, ViewEvidence
from unlearn_runner.evaluation.schema import View

Places = dict[str, tuple[int, ...]]
"""Rows by view, rising."""


@dataclass(frozen=True)
class Parts:
    """The rows of part A and of part B, view by view."""

    a: Places
    b: Places


def divide(units: Mapping[str, Sequence[Hashable]], share: float, seed: int) -> Parts:
    """Divides the rows of all views.

    Args:
        units: By view, which unit each row belongs to; equal units are never separated.
        share: Of a view's units that go into A, to the nearest whole number but at least one in
            each part; more where views before it put more of its units there.
        seed: Of the draw, which depends on nothing else.

    Raises:
        ValueError: With the view's name, if all its rows would be in one part.
    """
    in_a: dict[Hashable, bool] = {}
    for view, owners in units.items():
        known = list(dict.fromkeys(owners))
        free = [unit for unit in known if unit not in in_a]
        random.Random(f"{seed}:{view}").shuffle(free)
        wanted = min(max(round(share * len(known)), 1), len(known) - 1)
        missing = max(0, wanted - sum(in_a.get(unit, False) for unit in known))
        in_a |= {unit: place < missing for place, unit in enumerate(free)}
        if len({in_a[unit] for unit in known}) < 2:
            raise ValueError(view)
    a, b = (
        {
            view: tuple(i for i, unit in enumerate(owners) if in_a[unit] is chosen)
            for view, owners in units.items()
        }
        for chosen in (True, False)
    )
    return Parts(a, b)


def units(
    full: Rows, views: Mapping[str, tuple[View, Rows]], together: int
) -> dict[str, tuple[int, ...]]:
    """Returns the unit of each row, by view: numbers, equal where rows are of one unit.

    Args:
        full: The split with all rows.
        views: The evaluated rows.
        together: Rows of `full`, one after another, that are one unit; so are those of a view of
            unseen rows. Another row that is not in it stands by itself, and is the same unit in all
            views of its split.
    """
    places = {row.identity: i for i, row in enumerate(full)}
    numbers: dict[Hashable, int] = {}
    found: dict[str, tuple[int, ...]] = {}
    for name, (view, rows) in views.items():
        apart = together if view.goal == "unseen" else 1
        at = [places.get(row.identity) for row in rows]
        owners = [
            (rows.name, i // apart) if place is None else place // together
            for i, place in enumerate(at)
        ]
        found[name] = tuple(numbers.setdefault(owner, len(numbers)) for owner in owners)
    return found


def part(evidence: Evidence, rows: Places) -> Evidence:
    """Returns the evidence of some rows of every view, each still known as the row it is."""
    return Evidence({name: _part(view, rows[name]) for name, view in evidence.views.items()})


def _part(view: ViewEvidence, rows: Sequence[int]) -> ViewEvidence:
    keys = range(view.rows) if view.keys is None else view.keys
    wanted = set(rows)
    places = [place for place, key in enumerate(keys) if key in wanted]
    kept = tuple(keys[place] for place in places)
    return replace(view, record=view.record.at(places), keys=kept)
