"""A folder with files like BookCrossing's, whose readers each like one of two authors."""

from __future__ import annotations

from pathlib import Path

BOOKS, READERS, EACH = 20, 60, 8


def write_books(folder: Path) -> Path:
    """Of two books after another one is by Ames, one by Byrd; half of the readers like Ames."""
    books = [
        f'"{i:010}";"Book {i // 2} of {"AB"[i % 2]}";"{("Ames", "Byrd")[i % 2]}";"1999";"P"'
        for i in range(BOOKS)
    ]
    ratings = []
    for reader in range(READERS):
        for step in range(EACH):
            book = (reader * 3 + step * 7) % BOOKS
            liked = book % 2 == reader // 2 % 2
            ratings.append(f'"{reader}";"{book:010}";"{9 if liked else 2}"')
    head = '"ISBN";"Book-Title";"Book-Author";"Year-Of-Publication";"Publisher"'
    (folder / "BX-Books.csv").write_text("\n".join([head, *books]) + "\n")
    head = '"User-ID";"ISBN";"Book-Rating"'
    (folder / "BX-Book-Ratings.csv").write_text("\n".join([head, *ratings]) + "\n")
    return folder
