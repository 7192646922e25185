"""Errors of a disk, for people: no space, no permission, a file where a folder should be."""

from __future__ import annotations

import errno
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from unlearn_runner.errors import UserError
from unlearn_runner.utils.text import size

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
REFUSALS = (
    *FULL,
    *(errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO, errno.ENOTDIR, errno.EISDIR),
    *(errno.EEXIST, errno.ENAMETOOLONG, errno.ESTALE),
)
_RUST = re.compile(r"\(os error (\d+)\)")  # how safetensors reports the system's number
_TORCH = "inline_container"  # torch's archive writer reports a short write, but no number


class DiskError(UserError):
    """A path that the machine does not let us write or read."""


@contextmanager
def disk_errors(where: Path) -> Iterator[None]:
    """Turns what a disk refuses within it into an error for people, see `refusal`.

    Raises:
        DiskError: When the disk refused something.
    """
    try:
        yield
    except Exception as error:  # a UserError, too: of a checkpoint with torch's words in it
        refused = refusal(error, where)
        if refused is None:
            raise
        raise refused from error


def refusal(error: BaseException, where: Path) -> DiskError | None:
    """Returns what the disk refused behind an exception, or none when it refused nothing.

    Args:
        error: What a write or read raised; libraries wrap the system's error in their own ways.
        where: The path to name when the exception names none.
    """
    code = _code(error)
    if code is None:
        return None
    named = getattr(error, "filename", None)
    path = Path(os.fsdecode(named)) if isinstance(named, str | bytes) else where
    reason = os.strerror(code) if code else "it took only a part of a file"
    fix = "name a place you can write to with store=FOLDER or output_dir=FOLDER"
    if code == errno.ENAMETOOLONG:
        fix = "name=SHORT: a folder's name has at most 255 bytes"
    if not code or code in FULL:
        reason += _free(path)
        fix = "unlearn-store gc shows what can be freed; store=FOLDER is another disk"
        fix += "; the same command then continues from the last checkpoint"
    return DiskError(f"{path} cannot be written: {reason}", fix)


def _code(error: BaseException) -> int | None:
    """Returns the system's error number, 0 for a short write without one, or none."""
    if isinstance(error, OSError):
        return error.errno if error.errno in REFUSALS else None
    if found := _RUST.search(str(error)):
        return int(found[1]) if int(found[1]) in REFUSALS else None
    if _TORCH in str(error):
        inner = error.__context__
        return (_code(inner) if isinstance(inner, OSError) else None) or 0
    return None


def _free(path: Path) -> str:
    for folder in (path, *path.parents):
        try:
            return f" ({size(shutil.disk_usage(folder).free)} free on its disk)"
        except OSError:
            continue
    return ""
