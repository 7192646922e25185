"""Regular files, read without trust: no device, no pipe, no more than a bound."""

from __future__ import annotations

import errno
from pathlib import Path

MAX_BYTES = 1 << 30


def read_regular(path: Path, max_bytes: int = MAX_BYTES) -> bytes:
    """Returns the bytes of a file; links are followed.

    Raises:
        OSError: If it cannot be read, is a device, pipe, socket or folder, or is larger than
            `max_bytes`; `strerror` says which.
    """
    if path.exists() and not path.is_file():
        raise OSError(errno.EINVAL, "it is no regular file")
    with path.open("rb") as file:
        found = file.read(max_bytes + 1)
    if len(found) > max_bytes:
        raise OSError(errno.EFBIG, f"it is larger than {max_bytes:,} bytes")
    return found
