"""Reads files of rows to records: JSON lines, a JSON array, CSV or Parquet."""

from __future__ import annotations

import codecs
import csv
import io
import json
import shlex
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

from unlearn_runner.errors import DataError

AGAIN = "fetch the file again"
ROW = 'one line per row: {"question": "...", "answer": "..."}'
LFS = "version https://git-lfs"
# A UTF-32 file's mark begins with UTF-16's.
MARKS = {
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
"""Encodings by the byte order mark that a file begins with."""
FORMATS = (".json", ".jsonl", ".csv", ".parquet")
Placed = tuple[str, Any]
"""Place of a record, for messages, and the record."""


def read_records(path: Path) -> list[Placed]:
    """Returns the records of a file, each with the place it stands at.

    An empty cell of a table is none; a cell of CSV that begins with a bracket is a JSON list.

    Raises:
        DataError: If the file cannot be read as what its name says it is, naming the line.
    """
    read = {".csv": _read_csv, ".parquet": _read_parquet}.get(path.suffix, _read_json)
    found = read(path)
    if not found:
        raise DataError(f"{path} is empty", f"{AGAIN}; {ROW}")
    return found


def _read_csv(path: Path) -> list[Placed]:
    reader = csv.DictReader(io.StringIO(_text(path), newline=""), strict=True)
    found: list[Placed] = []
    try:
        for cells in reader:
            where = f"{path}:{reader.line_num}"
            if None in cells:
                raise DataError(
                    f"{where} has more cells than the {len(reader.fieldnames or ())} columns",
                    'texts with commas in quotes: "yes, he was"',
                )
            record = {name: cell for name, cell in cells.items() if cell}
            for name, cell in record.items():
                if cell.startswith("["):
                    with suppress(ValueError, RecursionError):  # a text, then
                        record[name] = json.loads(cell)
            found.append((where, record))
    except csv.Error as error:
        raise DataError(
            f"{path}:{reader.line_num} is not valid CSV: {error}", "a header, then one row a line"
        ) from None
    return found


def _read_parquet(path: Path) -> list[Placed]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        rows = pq.ParquetFile(path).read().to_pylist()
    except (pa.ArrowException, OSError, ValueError) as error:
        reason = " ".join(str(error).split())[:120]
        raise DataError(f"{path} is not a Parquet file that can be read: {reason}", AGAIN) from None
    filled = ({name: cell for name, cell in row.items() if cell is not None} for row in rows)
    return [(f"{path} row {i}", row) for i, row in enumerate(filled, 1)]


def _read_json(path: Path) -> list[Placed]:
    """Reads a JSON array or JSON lines."""
    text = _text(path)
    if text.lstrip().startswith("["):
        return [(f"{path} row {i}", record) for i, record in enumerate(_json(text, path), 1)]
    # Not splitlines: a JSON text may hold other line separators than the newline.
    lines = [(i, line) for i, line in enumerate(text.split("\n"), 1) if line.strip()]
    return [(f"{path}:{i}", _json(line, path, i)) for i, line in lines]


def _text(path: Path) -> str:
    try:
        data = path.read_bytes().removeprefix(b"\xef\xbb\xbf")  # the mark some editors begin with
    except OSError as error:
        raise DataError(
            f"{path} cannot be read: {error.strerror}", "a file that this user may read"
        ) from None
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        said = next((name for mark, name in MARKS.items() if data.startswith(mark)), None)
        line = data[: error.start].count(b"\n") + 1
        fix = f"iconv -f {said or 'latin1'} -t utf-8 {shlex.quote(path.name)}"
        raise DataError(
            f"{path}:{line} is not UTF-8 text" + (f" but {said.upper()}" if said else ""),
            fix if said else f"{fix}, if it is",
        ) from None


def _json(text: str, path: Path, line: int | None = None) -> Any:
    """Returns what a whole file, or the given line of it, says in JSON by the standard alone."""
    where = path if line is None else f"{path}:{line}"
    try:
        return json.loads(text, parse_constant=_no_number, object_pairs_hook=_object)
    except json.JSONDecodeError as error:
        at = f"{path}:{error.lineno if line is None else line}"
        fix = "git lfs pull, which fetches the file itself" if text.startswith(LFS) else ROW
        raise DataError(f"{at} is not valid JSON: {error.msg}", fix) from None
    except RecursionError:
        raise DataError(f"{where} is not valid JSON for us: it is nested too deeply", ROW) from None
    except ValueError as error:
        raise DataError(f"{where} is not valid JSON: {error}", f"correct it, or {AGAIN}") from None


def _no_number(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON number")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    names = [name for name, _ in pairs]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the key {twice!r} stands twice in one object")
    return dict(pairs)
