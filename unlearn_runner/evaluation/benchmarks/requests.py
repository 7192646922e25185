"""Requests to forget: the rows of each, in training and in evaluation, alone and in turn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated

from annotated_types import Ge

from unlearn_runner.data.rows import Rows
from unlearn_runner.data.sources import Source
from unlearn_runner.errors import ConfigError, DataError, listed
from unlearn_runner.evaluation.benchmarks.base import Splits, Turn

REQUEST, HOLDOUT = "request", "holdout"
"""Splits of views that stand for those of whatever is requested."""


@dataclass(frozen=True)
class Request:
    """Splits that belong to one choice of forget split."""

    retain: str
    view: str
    """The forget rows with their paraphrased and perturbed answers."""
    holdout: str | None = None
    """Rows like the forget rows that no model has seen, which membership attacks compare with."""
    of: str | None = None
    """Split that holds the forget rows; null is the one that is called as the request is."""
    people: tuple[Annotated[int, Ge(0)], ...] | None = None
    """Only the rows of these people, numbered from 0 as `full` has them; retain rows are then all
    others'. Null takes the whole split."""


@dataclass(frozen=True)
class Requests:
    """Several requests by name, and where their rows are read."""

    source: Source
    full: str
    known: Mapping[str, Request]
    together: int
    """Rows of one person in `full`."""

    def both(self, names: Sequence[str]) -> tuple[Rows, Rows]:
        """Returns the rows of requests together, and all others; whoever they are about.

        Raises:
            ConfigError: If two of them share rows.
        """
        parts = [self.forget(name) for name in names]
        if len(names) == 1 and self.known[names[0]].people is None:
            return parts[0], self.source.read(self.known[names[0]].retain)
        forget = Rows.joined("+".join(names), parts)
        pairs = {row.identity for row in forget}
        if len(pairs) < len(forget):
            raise ConfigError(
                f"benchmark.in_turn=[{','.join(names)}]: two of these requests share rows",
                f"benchmark.in_turn=[{','.join(names[:-1])}]",
            )
        rest = (row for row in self.source.read(self.full) if row.identity not in pairs)
        return forget, Rows(f"{self.full} without {forget.name}", tuple(rest))

    def forget(self, name: str) -> Rows:
        """Returns the forget rows of one request.

        Raises:
            ConfigError: If it names people whom its split does not have.
        """
        request = self.known[name]
        rows = self.source.read(request.of or name)
        if request.people is None:
            return rows
        full = enumerate(self.source.read(self.full))
        places = {row.identity: i // self.together for i, row in full}
        there = {places.get(row.identity) for row in rows} - {None}
        if lacking := sorted({*request.people} - there):
            raise ConfigError(
                f"benchmark.requests.{name}.people: {rows.name} has no rows of {lacking[0]}; "
                f"allowed: {listed(sorted(map(str, there)))}",
                f"benchmark.requests.{name}.people=[{next(iter(there), 0)}]",
            )
        chosen = (row for row in rows if places.get(row.identity) in request.people)
        return Rows(name, tuple(chosen))

    def turns(self, names: Sequence[str], whole: Splits) -> tuple[Turn, ...]:
        """Returns the requests one after another, each retaining what none has named so far."""
        gone, found = set[tuple[str, ...]](), list[Turn]()
        for name in names:
            forget = self.forget(name)
            gone |= {row.identity for row in forget}
            rest = tuple(row for row in whole.full if row.identity not in gone)
            retain = Rows(f"{whole.full.name} after {name}", rest)
            found.append(Turn(name, replace(whole, forget=forget, retain=retain)))
        return tuple(found)

    def view_rows(self, split: str, names: Sequence[str]) -> Rows:
        """Returns the rows of a view's split, which may stand for those of the requests."""
        if split == REQUEST:
            parts = [self._evaluated(name) for name in names]
        else:
            held = dict.fromkeys(self.known[name].holdout for name in names)
            splits = [name for name in held if name] if split == HOLDOUT else []
            parts = [self.source.read(name) for name in splits or [split]]
        return parts[0] if len(parts) == 1 else Rows.joined("+".join(p.name for p in parts), parts)

    def _evaluated(self, name: str) -> Rows:
        """Returns the evaluated form of a request's rows.

        Raises:
            DataError: If some of them have none.
        """
        request = self.known[name]
        rows = self.source.read(request.view)
        if request.people is None:
            return rows
        pairs = {row.identity for row in self.forget(name)}
        found = tuple(row for row in rows if row.identity in pairs)
        if len(found) != len(pairs):
            raise DataError(
                f"{request.view} has {len(found)} of the {len(pairs)} rows that {name} forgets",
                f"benchmark.requests.{name}.view names the split that has them all",
            )
        return Rows(name, found)
