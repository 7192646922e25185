"""BookCrossing by its publisher's files: who rated which books, and which of them are liked."""

from __future__ import annotations

import csv
import html
from collections.abc import Iterator
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import ClassVar

from unlearn_runner.data.recommendation.interactions import Interactions, PublishedFiles
from unlearn_runner.errors import DataError

FILES = (("BX-Book-Ratings.csv", "BX-Books.csv"), ("Ratings.csv", "Books.csv"))
"""Ratings and books, as published and as others have put them into CSV."""
RATING, BOOK = ("User-ID", "ISBN", "Book-Rating"), ("ISBN", "Book-Title", "Book-Author")
"""Columns that are read."""
LIKED, HIGHEST = 5, 10
"""A rating above the first is of a book that is liked (TALLRec); the second is the highest."""


@dataclass(frozen=True)
class BookCrossing(PublishedFiles):
    """BookCrossing (Ziegler 2005), semicolons and ISO 8859-1 as published, or commas and UTF-8.

    A book is its title and author, whatever the edition, as the first line about it spells them; of
    two ratings of one user the first counts. Ratings of books that the list of books does not have
    are left out. As there are no times, a user's books are in the file's order.
    """

    needs: ClassVar[str] = "BX-Book-Ratings.csv and BX-Books.csv"

    implicit: bool = False
    """Take a rating of 0, which says that a book was read and not how it was liked, for a dislike,
    as TALLRec's code does; else it is left out."""

    def read(self) -> Interactions:
        """Returns what the files say."""
        folder = self.folder
        names = next((pair for pair in FILES if (folder / pair[0]).is_file()), None)
        if names is None:
            raise DataError(
                f"benchmark.data_dir={self.data_dir} holds no BookCrossing",
                f"a folder with {self.needs}",
            )
        titles, books = _books(folder / names[1])
        users: dict[int, dict[int, bool]] = {}
        for where, (user, isbn, rating) in _lines(folder / names[0], RATING):
            if not (user.isdecimal() and rating.isdecimal() and int(rating) <= HIGHEST):
                raise DataError(
                    f"{where} has user {user[:20]!r} and rating {rating[:20]!r}; allowed: a whole "
                    f"number, and one of 0 to {HIGHEST}",
                    "fetch the file again",
                )
            book = books.get(isbn.strip().upper())
            if book is not None and (self.implicit or int(rating)):
                users.setdefault(int(user), {}).setdefault(book, int(rating) > LIKED)
        return Interactions(
            titles,
            {user: tuple(rated) for user, rated in users.items()},
            "A reader read",
            "Read",
            {
                user: frozenset(b for b, good in rated.items() if good)
                for user, rated in users.items()
            },
        )


def _books(path: Path) -> tuple[dict[int, str], dict[str, int]]:
    """Returns what each book is called, and which book an ISBN is of."""
    names: dict[str, int] = {}
    titles: dict[int, str] = {}
    books: dict[str, int] = {}
    for _, (isbn, title, author) in _lines(path, BOOK):
        text = " ".join(html.unescape(f"{title} by {author}").split())
        number = names.setdefault(text.casefold(), len(names))
        titles.setdefault(number, text)
        books.setdefault(isbn.strip().upper(), number)
    return titles, books


def _lines(path: Path, wanted: tuple[str, ...]) -> Iterator[tuple[str, list[str]]]:
    """Yields the wanted cells of each line of a file with its place.

    Raises:
        DataError: If it is missing, has not these columns, or a line has too few cells.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error}", "fetch the file again") from None
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = data.decode("latin-1")
    mark = ";" if ";" in text.partition("\n")[0] else ","
    lines = csv.reader(StringIO(text, newline=""), delimiter=mark, escapechar="\\")
    try:
        head = next(lines, [])
        if lacking := [name for name in wanted if name not in head]:
            raise DataError(
                f"{path} has no column {lacking[0]!r} in its first line", "fetch the file again"
            )
        places = [head.index(name) for name in wanted]
        for cells in filter(None, lines):
            where = f"{path}:{lines.line_num}"
            if len(cells) <= max(places):
                raise DataError(f"{where} has too few cells", "fetch the file again")
            yield where, [cells[place] for place in places]
    except csv.Error as error:
        raise DataError(
            f"{path}:{lines.line_num} is no CSV: {error}", "fetch the file again"
        ) from None
