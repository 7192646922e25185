"""Table for a terminal of any width: it cuts no number.

Columns that do not fit beside each other stand in further parts below, each with the first columns
again, which say what a row is of. Columns whose cells all say the same fold into a line.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Column, Table

LONGEST_WORD = 24
"""Characters of a word of text from which on it may be broken; a number is never broken."""
SHORTENED = 8
"""Characters that are left of a text where each row is one line."""
AROUND = 3
"""Characters that a column takes beside its own: a space on both sides, and a rule."""


class TitledTable(Table):
    """Table with its title above it at the left, in as many parts as the width asks for.

    `keys` counts the first columns, which every part repeats. With `one_line` there is one part,
    and each row is a line: a text that is too long for that loses its end, a number nothing.
    """

    def __init__(
        self, title: str, *columns: Column | str, keys: int = 1, one_line: bool = False
    ) -> None:
        super().__init__(*columns, title=title, title_justify="left", title_style="bold")
        self.keys, self.one_line = keys, one_line
        self.same: list[str] = []
        """What folded columns say of every row."""

    def fold(self, places: Iterable[int]) -> None:
        """Takes out those of the columns at these places whose cells are all alike.

        Where there is but one row nothing is folded.
        """
        for place in sorted(places, reverse=True):
            column = self.columns[place]
            said = {str(cell) for cell in column.cells}
            if self.row_count > 1 and len(said) == 1:
                self.keys -= place < self.keys
                self.columns.remove(column)
                self.same.insert(0, f"{str(column.header).replace(chr(10), '.')} {said.pop()}")

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Yields the parts."""
        keys, longest = self.keys, LONGEST_WORD
        if self.one_line:
            keys, longest = len(self.columns), SHORTENED
        for place, columns in enumerate(_parts(self.columns, keys, longest, options.max_width)):
            title = f"{self.title}, continued" if place else self.title
            if self.same and not place:
                title = f"{title}\n{', '.join(self.same)}"
            part = Table(title=title, title_justify="left", title_style=self.title_style)
            widths = _widths(columns, longest, options.max_width)
            for column, width in zip(columns, widths, strict=True):
                found = column.copy()
                found._index, found._cells = len(part.columns), list(column.cells)
                found.width, found.overflow = width, "ellipsis" if self.one_line else "fold"
                found.no_wrap = self.one_line
                part.columns.append(found)
            part.rows = self.rows
            yield part


def _parts(
    columns: Sequence[Column], keys: int, longest: int, width: int
) -> Iterator[list[Column]]:
    """Yields the columns of each part."""
    first = list(columns[:keys])
    room = width - 1 - sum(_least(column, longest) + AROUND for column in first)
    part, used = list[Column](), 0
    for column in columns[keys:]:
        needed = _least(column, longest) + AROUND
        if part and used + needed > room:
            yield [*first, *part]
            part, used = [], 0
        part.append(column)
        used += needed
    yield [*first, *part]


def _widths(columns: Sequence[Column], longest: int, width: int) -> list[int]:
    """Returns the columns' widths: what each needs, and of what is left, what each would like."""
    found = [_least(column, longest) for column in columns]
    left = width - 1 - sum(found) - AROUND * len(columns)
    for place, column in enumerate(columns):
        wished = max(map(_length, _lines(column)), default=0) - found[place]
        more = max(0, min(left, wished))
        found[place], left = found[place] + more, left - more
    return [max(1, number) for number in found]


def _least(column: Column, longest: int) -> int:
    """Returns the characters that a column needs: a number is shown whole, text may fold."""
    whole = list(column.cells) if column.justify == "right" or column.no_wrap else []
    words = (_length(word) for line in _lines(column) for word in line.split())
    least = min(max(words, default=0), longest)
    return max([least, *(_length(str(cell)) for cell in whole)])


def _lines(column: Column) -> list[str]:
    return [line for text in (column.header, *column.cells) for line in str(text).splitlines()]


def _length(text: str) -> int:
    return cell_len(text)
