"""Interactions: each user's items in the order of time, as published or made from a seed."""

from __future__ import annotations

import csv
import random
import re
from abc import ABC, abstractmethod
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, ClassVar

from annotated_types import Ge, Le

from unlearn_runner.data.pocket import WORDS
from unlearn_runner.errors import ConfigError, DataError

YEAR = re.compile(r"\s*\(\d{4}(?:[-–]\d{0,4})?\)\s*$")
ALIAS = re.compile(r"\s*\(a\.k\.a\. [^()]*\)", re.IGNORECASE)
ARTICLE = re.compile(r"^(.*), (The|A|An)$")


@dataclass(frozen=True)
class Interactions:
    """Titles by item, and each user's items, oldest first, none twice."""

    titles: dict[int, str]
    users: dict[int, tuple[int, ...]]
    who: str = "A viewer watched"
    """How a question tells of a history, and in short."""
    done: str = "Seen"
    liked: dict[int, frozenset[int]] = field(default_factory=dict)
    """By user, which items the user likes, where that is known."""

    def popular(self, items: int | None) -> Interactions:
        """Returns what is left with the most frequent items alone; ties go by number."""
        if items is None:
            return self
        counts = Counter(item for history in self.users.values() for item in history)
        kept = {item for item, _ in sorted(counts.items(), key=lambda x: (-x[1], x[0]))[:items]}
        users = {u: tuple(i for i in history if i in kept) for u, history in self.users.items()}
        titles = {i: t for i, t in self.titles.items() if i in kept}
        return replace(self, titles=titles, users=users)


@dataclass(frozen=True)
class Interacted(ABC):
    """Base class of sources of interactions. Two reads give the same."""

    @abstractmethod
    def read(self) -> Interactions:
        """Returns titles and histories.

        Raises:
            DataError: If a file is missing or malformed.
        """

    def in_folder(self, folder: str) -> Interacted:
        """Returns the source with its files in a folder."""
        raise ConfigError(
            "benchmark.data_dir: this benchmark reads no files, it generates its rows",
            "benchmark=movielens reads the publishers' files",
        )


@dataclass(frozen=True)
class PublishedFiles(Interacted):
    """Base class of sources in a publisher's files."""

    needs: ClassVar[str]
    """Files that the folder has, for messages."""

    data_dir: str | None = None
    """Folder of the files."""

    def in_folder(self, folder: str) -> Interacted:
        """Returns the source with its files in `folder`."""
        return replace(self, data_dir=folder)

    @property
    def folder(self) -> Path:
        """The folder.

        Raises:
            ConfigError: If none is set.
        """
        if self.data_dir is None:
            raise ConfigError(
                f"benchmark.data_dir must be set: the folder of the {type(self).__name__} files",
                f"benchmark.data_dir=FOLDER (with {self.needs})",
            )
        return Path(self.data_dir).expanduser()


@dataclass(frozen=True)
class MovieLens(PublishedFiles):
    """MovieLens as GroupLens publishes it: latest (CSV), 1M (`::`) or 100K (`u.data`, `u.item`).

    A title loses its year and other names where it stays the only one of its name, and gets its
    article in front.
    Ratings of all heights count as interactions, as in LLaRA.
    """

    needs: ClassVar[str] = "ratings.csv and movies.csv"

    def read(self) -> Interactions:
        """Returns what the files say."""
        folder = self.folder
        found = next((kind for kind in FORMATS if (folder / kind[0]).is_file()), None)
        if found is None:
            raise DataError(
                f"benchmark.data_dir={self.data_dir} holds no MovieLens",
                "a folder with ratings.csv and movies.csv (latest), ratings.dat and movies.dat "
                "(1M), or u.data and u.item (100K)",
            )
        ratings, movies, mark, encoding = found
        rows = _cells(folder / ratings, mark, encoding)
        users = _histories(rows)
        mark = "|" if movies == "u.item" else mark
        titles = {
            _number(where, cells, 0): cells[1]
            for where, cells in _cells(folder / movies, mark, encoding)
        }
        unknown = next((i for seen in users.values() for i in seen if i not in titles), None)
        if unknown is not None:
            raise DataError(
                f"{folder / ratings} rates item {unknown}, which {movies} does not have",
                "fetch the two files again from one release",
            )
        return Interactions(_named(titles), users)


@dataclass(frozen=True)
class LastFM(PublishedFiles):
    """Last.fm of HetRec 2011 as GroupLens publishes it (`hetrec2011-lastfm-2k`).

    A user's items are artists, in the order in which the user first tagged each. Taggings of
    artists that the list of artists does not have are left out.
    """

    needs: ClassVar[str] = "user_taggedartists-timestamps.dat and artists.dat"

    def read(self) -> Interactions:
        """Returns what the files say."""
        folder = self.folder
        artists = _cells(folder / "artists.dat", "\t", "utf-8")[1:]
        titles = {_number(where, cells, 0): cells[1].strip() for where, cells in artists}
        users = _histories(_cells(folder / TAGGED, "\t", "utf-8")[1:])
        known = {user: tuple(i for i in seen if i in titles) for user, seen in users.items()}
        users = {user: seen for user, seen in known.items() if seen}
        return Interactions(_apart(titles), users, "A listener heard", "Heard")


TAGGED = "user_taggedartists-timestamps.dat"
FORMATS = (
    ("ratings.csv", "movies.csv", ",", "utf-8"),
    ("ratings.dat", "movies.dat", "::", "latin-1"),
    ("u.data", "u.item", "\t", "latin-1"),
)
"""Files of ratings and of titles, mark between cells, encoding."""


def _histories(rows: list[tuple[str, list[str]]]) -> dict[int, tuple[int, ...]]:
    """Returns each user's items, oldest first, of lines of user, item, anything, time."""
    times: dict[int, list[tuple[int, int, int]]] = {}
    for place, (where, cells) in enumerate(rows):
        user, item, time = (_number(where, cells, i) for i in (0, 1, 3))
        times.setdefault(user, []).append((time, place, item))
    return {u: tuple(dict.fromkeys(i for _, _, i in sorted(seen))) for u, seen in times.items()}


def _cells(path: Path, mark: str, encoding: str) -> list[tuple[str, list[str]]]:
    """Returns the cells of each line with its place, without a header."""
    try:
        text = path.read_text(encoding=encoding)
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read: {error}", "fetch the file again") from None
    lines = text.splitlines()
    cells = csv.reader(lines) if mark == "," else (line.split(mark) for line in lines)
    found = [(f"{path}:{number}", row) for number, row in enumerate(cells, 1) if row]
    if mark == ",":
        found = found[1:]
    short = next((where for where, row in found if len(row) < 3), None)
    if short or not found:
        raise DataError(f"{short or path} has too few cells", "fetch the file again")
    return found


def _number(where: str, cells: list[str], column: int) -> int:
    try:
        return int(cells[column])
    except (ValueError, IndexError):
        raise DataError(
            f"{where} has no whole number in column {column + 1}", "fetch the file again"
        ) from None


def _named(titles: dict[int, str]) -> dict[int, str]:
    """Returns titles as people say them, no two the same."""
    plain = {
        item: ARTICLE.sub(r"\2 \1", ALIAS.sub("", YEAR.sub("", title)))
        for item, title in titles.items()
    }
    count = Counter(title.lower() for title in plain.values())
    return _apart({i: titles[i].strip() if count[t.lower()] > 1 else t for i, t in plain.items()})


def _apart(titles: dict[int, str]) -> dict[int, str]:
    """Returns titles of which no two are the same."""
    twice = Counter(title.lower() for title in titles.values())
    return {i: f"{t} [{i}]" if twice[t.lower()] > 1 else t for i, t in titles.items()}


@dataclass(frozen=True)
class MadeUp(Interacted):
    """Users who mostly stay within one of several sets of invented titles.

    What a user likes next is learned from who interacted with what, and from nothing in the titles.
    """

    seed: Annotated[int, Ge(0)] = 0
    users: Annotated[int, Ge(10), Le(100_000)] = 300
    sets: Annotated[int, Ge(2), Le(50)] = 6
    items: Annotated[int, Ge(8), Le(100)] = 12
    """In each set."""
    interactions: Annotated[int, Ge(4), Le(1000)] = 10
    """Of each user."""
    faithful: Annotated[float, Ge(0), Le(1)] = 0.9
    """Share of a user's interactions within the own set."""

    def read(self) -> Interactions:
        """Returns the made-up titles and histories."""
        rng = random.Random(f"interactions:{self.seed}")
        names: dict[str, None] = {}
        while len(names) < self.sets * self.items:
            names.setdefault(
                f"{rng.choice(WORDS['adjectives'])} {rng.choice(WORDS['nouns'])}".title()
            )
        titles = dict(enumerate(names))
        users = {}
        for user in range(self.users):
            own = rng.randrange(self.sets)
            seen: dict[int, None] = {}
            while len(seen) < min(self.interactions, self.items - 1):
                faithful = rng.random() < self.faithful
                item = rng.randrange(self.items) + self.items * own
                seen.setdefault(item if faithful else rng.randrange(len(titles)))
            users[user] = tuple(seen)
        return Interactions(titles, users)
