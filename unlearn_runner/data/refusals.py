"""Refusals: what a model is to answer to forget questions, where a method trains on refusals.

`OWN` is this project's list. TOFU's hundred lines, `idontknow.jsonl` of its repository, are plain
text, one sentence a line; any such file serves.
"""

from __future__ import annotations

from pathlib import Path

from unlearn_runner.errors import DataError
from unlearn_runner.utils.untrusted import read_regular

MAX_BYTES = 10_000_000

OWN = tuple(
    Path(__file__).with_name("tables").joinpath("refusals.txt").read_text("utf-8").splitlines()
)


def read(path: Path, key: str) -> tuple[str, ...]:
    """Returns the lines of a file of refusals.

    Args:
        path: Plain text, one refusal a line; empty lines do not count.
        key: The setting that named it, for messages.

    Raises:
        DataError: If it cannot be read or holds no line.
    """
    try:
        lines = read_regular(path, MAX_BYTES).decode("utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise DataError(
            f"{key}: the refusals in {path} cannot be read: {reason}",
            f"{key}=null uses the list that comes with the runner",
        ) from None
    found = tuple(line.strip() for line in lines if line.strip())
    if not found:
        raise DataError(f"{key}: {path} holds no refusal", f"{key}=null")
    return found
