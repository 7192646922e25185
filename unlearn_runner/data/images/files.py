"""Pictures in files of a folder, hostile until checked."""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unlearn_runner.data.picture import Picture, pillow
from unlearn_runner.errors import DataError, listed
from unlearn_runner.utils.untrusted import read_regular

if TYPE_CHECKING:
    from unlearn_runner.data.picture import Pixels

FORMATS = ("PNG", "JPEG", "WEBP", "BMP")
ENDINGS = (".png", ".jpg", ".jpeg", ".webp", ".bmp")
MAX_BYTES, MAX_PIXELS = 32 << 20, 64_000_000
"""Of one file, and of the picture in it."""
MASKED = ((1, (255, 0, 0)), (2, (0, 255, 0)))
"""Values of a mask, and the colours that R-Bench's questions call them by."""


@dataclass(frozen=True)
class ImageFile(Picture):
    """A picture in a file of a folder; known by its content, wherever the folder lies."""

    folder: str
    name: str
    """Path within the folder."""
    digest: str
    """Of the file's bytes when they were checked."""
    mask: ImageFile | None = None
    """Where the picture is shown half red (1) and half green (2)."""

    @property
    def identity(self) -> str:
        """Hash of the content, and of the mask's."""
        return self.digest + (f"+{self.mask.digest}" if self.mask is not None else "")

    def pixels(self) -> Pixels:
        """Decodes it; sixteen-bit and transparent pictures, and those of palettes, become RGB."""
        import numpy as np

        found = np.array(self._decoded().convert("RGB"))
        if self.mask is None:
            return found
        values = np.asarray(self.mask._decoded())
        if values.shape != found.shape[:2]:
            raise DataError(
                f"{self.mask.name} has another size than {self.name}, whose mask it is",
                "one value for each pixel: 0, 1 or 2",
            )
        for value, colour in MASKED:
            found[values == value] = found[values == value] // 2 + np.array(colour, np.uint8) // 2
        return found

    def _decoded(self) -> Any:
        """Returns the picture, read; its bytes must still be those that were checked."""
        path = Path(self.folder) / self.name
        try:
            data = read_regular(path, MAX_BYTES)
        except OSError as error:
            raise DataError(
                f"{path} cannot be read any more: {error.strerror}", "put it back"
            ) from None
        if hashlib.sha256(data).hexdigest()[:16] != self.digest:
            raise DataError(f"{path} has changed since the run was planned", "start it again")
        image = opened(data, str(path))
        try:
            image.load()
        except (OSError, ValueError, SyntaxError, MemoryError) as error:
            raise _no_picture(str(path), error) from None
        return image


def opened(data: bytes, where: str) -> Any:
    """Returns a Pillow image of known format and bounded size, whose pixels are not decoded yet.

    Raises:
        DataError: If the bytes are none.
    """
    Image = pillow()
    try:
        image = Image.open(io.BytesIO(data), formats=FORMATS)
    except Image.DecompressionBombError as error:
        raise _no_picture(where, error) from None
    except Exception as error:  # of many kinds, by format
        raise _no_picture(where, error) from None
    width, height = image.size
    if width * height > MAX_PIXELS or min(width, height) * 16 < max(width, height):
        raise DataError(
            f"{where} has {width} x {height} pixels; allowed: {MAX_PIXELS:,} in all, and no side "
            "16 times the other",
            "make it smaller",
        )
    return image


def _no_picture(where: str, error: Exception) -> DataError:
    reason = " ".join(str(error).split())[:100]
    return DataError(
        f"{where} is no picture that can be read ({listed(FORMATS)}): {reason}",
        "save it again as PNG",
    )


def find_image(folder: Path, name: object, where: str, mask: object = None) -> ImageFile:
    """Returns a picture that a data file names, with its mask; both must lie in the folder.

    A name with another ending than the file's is taken for it where one file alone can be meant.

    Raises:
        DataError: If there is none, or it leads out of the folder or is no picture.
    """
    if not isinstance(name, str) or not name or "\0" in name or Path(name).is_absolute():
        raise DataError(
            f"{where} has {str(name)[:60]!r} for a picture, which is no path within {folder}",
            'a path from the folder of the annotations: "image": "images/000001.png"',
        )
    path = folder / name
    if not path.is_file():
        same = [p for end in ENDINGS if (p := path.with_suffix(end)).is_file()]
        path = same[0] if len(same) == 1 else path
    try:
        inside = path.resolve(strict=True).is_relative_to(folder.resolve())
        data = read_regular(path, MAX_BYTES) if inside else b""
    except (OSError, RuntimeError) as error:  # RuntimeError: a link that leads to itself
        reason = getattr(error, "strerror", None) or "it leads to itself"
        raise DataError(
            f"{where}: the picture {name[:80]!r} cannot be read: {reason}",
            f"put it into {folder}, or remove the line",
        ) from None
    if not inside:
        raise DataError(
            f"{where}: the picture {name[:80]!r} lies outside {folder}",
            "copy the file itself into the folder",
        )
    opened(data, str(path))
    digest = hashlib.sha256(data).hexdigest()[:16]
    own = None if mask is None else find_image(folder, mask, where)
    return ImageFile(str(folder), path.relative_to(folder).as_posix(), digest, own)
