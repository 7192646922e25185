"""Columns of a foreign log, checked: one value per row, or the file, key and row that is wrong."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from unlearn_runner.errors import DataError

ROW = re.compile(r"[0-9]{1,9}(\.0)?")
AGAIN = "a score needs every row of a log to be sound: fetch the log, or evaluate, again"

T = TypeVar("T")


@dataclass(frozen=True)
class Column:
    """One statistic of one part of a log."""

    path: Path
    key: str
    """Dotted, as a person would look it up in the file."""
    values: dict[int, Any]
    """By row, rows ascending."""

    def has(self, name: str) -> bool:
        """Returns whether the first row has a field; the others must then, too."""
        first = next(iter(self.values.values()))
        return isinstance(first, dict) and name in first

    def field(self, name: str) -> Column:
        """Returns the field `name` that every row holds."""
        key = f"{self.key}.{name}"
        inner = {}
        for row, value in self.values.items():
            if not isinstance(value, dict) or name not in value:
                raise self._wrong(row, f"has no '{name}'")
            inner[row] = value[name]
        return Column(self.path, key, inner)

    def number(self) -> list[list[float]]:
        """Returns each row's one finite number, as a list of one."""
        return self._each(lambda value: [_finite(value)])

    def known(self) -> list[float]:
        """Returns each row's finite number; NaN for a row without, which is null."""
        return self._each(lambda value: math.nan if value is None else _finite(value))

    def numbers(self) -> list[list[float]]:
        """Returns each row's finite numbers; at least one."""
        return self._each(lambda value: [_finite(item) for item in _filled(value)])

    def texts(self) -> list[str]:
        """Returns each row's text."""
        return self._each(_text)

    def item(self, index: int, of: int) -> Column:
        """Returns item `index` of each row's list of `of`."""
        items = self._each(lambda value: _filled(value, of)[index])
        return Column(self.path, self.key, dict(zip(self.values, items, strict=True)))

    def _each(self, read: Callable[[Any], T]) -> list[T]:
        found = []
        for row, value in self.values.items():
            try:
                found.append(read(value))
            except ValueError as error:
                raise self._wrong(row, str(error)) from None
        return found

    def _wrong(self, row: int, problem: str) -> DataError:
        return DataError(f"{self.path}: '{self.key}' row {row} {problem}", AGAIN)


def column(path: Path, key: str, values: Any) -> Column:
    """Returns a column from {row: value}, in any order, or from a list with a value per row.

    A row is a number as text: "7", or "7.0" where a table was in between.
    """
    if isinstance(values, list):
        values = {str(row): value for row, value in enumerate(values)}
    if not isinstance(values, dict):
        raise DataError(
            f"{path}: '{key}' must map row numbers to values or list values, it is {_kind(values)}",
            AGAIN,
        )
    if not values:
        raise DataError(f"{path}: '{key}' has no rows", AGAIN)
    by_row: dict[int, Any] = {}
    for name, value in values.items():
        number = name.partition(".0")[0] if ROW.fullmatch(name) else None
        if number is None:
            raise DataError(
                f"{path}: '{key}' has a row {name[:20]!r}, which is no row number", AGAIN
            )
        if int(number) in by_row:
            raise DataError(f"{path}: '{key}' has row {int(number)} twice", AGAIN)
        by_row[int(number)] = value
    return Column(path, key, dict(sorted(by_row.items())))


def same_rows(columns: Iterable[Column]) -> None:
    """Refuses columns of one part that are not about the same rows."""
    columns = list(columns)
    for other in columns[1:]:
        first = columns[0]
        unpaired = first.values.keys() ^ other.values.keys()
        if unpaired:
            row = min(unpaired)
            has, lacks = (first, other) if row in first.values else (other, first)
            raise DataError(
                f"{first.path}: row {row} is in '{has.key}' and not in '{lacks.key}' "
                f"({len(has.values)} and {len(lacks.values)} rows)",
                AGAIN,
            )


def _finite(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ValueError(f"must be a number, it is {_kind(value)}")
    if not -1e300 < value < 1e300 or math.isnan(value):
        raise ValueError(f"must be a finite number, it is {str(value)[:12]}")
    return float(value)


def _filled(value: Any, of: int | None = None) -> list[Any]:
    if not isinstance(value, list):
        raise ValueError(f"must be a list, it is {_kind(value)}")
    if not value or of not in (None, len(value)):
        raise ValueError(f"must be a list of {of or 'at least 1'}, it has {len(value)} items")
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"must be text, it is {_kind(value)}")
    return value


def _kind(value: Any) -> str:
    kinds = {dict: "an object", list: "a list", str: "text", bool: "true or false"}
    return "null" if value is None else kinds.get(type(value), "a number")
