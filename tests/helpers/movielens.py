"""A folder with files like MovieLens latest, for what their rows do not matter to."""

from __future__ import annotations

from pathlib import Path

ITEMS, USERS, EACH = 40, 30, 8


def write_movielens(folder: Path) -> Path:
    ratings = [
        f"{user},{(user * 7 + 3 * step) % ITEMS},4.0,{1000 + step}"
        for user in range(USERS)
        for step in range(EACH)
    ]
    movies = [f"{item},Film {item} (1999),Drama" for item in range(ITEMS)]
    head = "userId,movieId,rating,timestamp"
    (folder / "ratings.csv").write_text("\n".join([head, *ratings]) + "\n")
    (folder / "movies.csv").write_text("\n".join(["movieId,title,genres", *movies]) + "\n")
    return folder


def write_lastfm(folder: Path) -> Path:
    """The same users and items, as the files of HetRec 2011."""
    tagged = [
        f"{user}\t{(user * 7 + 3 * step) % ITEMS}\t13\t{1000 + step}"
        for user in range(USERS)
        for step in range(EACH)
    ]
    artists = [f"{item}\tArtist {item}\thttp://x\thttp://y" for item in range(ITEMS)]
    for name, head, lines in (
        ("user_taggedartists-timestamps", "userID\tartistID\ttagID\ttimestamp", tagged),
        ("artists", "id\tname\turl\tpictureURL", artists),
    ):
        (folder / f"{name}.dat").write_text("\n".join([head, *lines]) + "\n")
    return folder
