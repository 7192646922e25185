"""Pictures, and what a model takes of one: numbers in the size and scale that it was trained on."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from unlearn_runner.errors import DataError

# numpy is imported where it computes: planning draws nothing.
if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Pixels = NDArray[np.uint8]
    Values = NDArray[np.float32]

PLACEHOLDER = "<image>"
"""Text that stands for a picture in a prompt, whatever a model's tokenizer writes for it."""
MAX_SIDE, MAX_TOKENS = 4096, 65536
KEPT = 1024
"""Pictures of a model's size that are kept: at LLaVA's a third of a megabyte each."""


class Picture(ABC):
    """Base class of pictures: frozen, compared by what they show."""

    @property
    @abstractmethod
    def identity(self) -> str:
        """What it shows, in a text that is equal for equal pictures on any machine."""

    @abstractmethod
    def pixels(self) -> Pixels:
        """Returns its colours; [height, width, 3].

        Raises:
            DataError: If a file cannot be read as a picture.
        """


@dataclass(frozen=True)
class ImageInput:
    """What a model takes of a picture, and what stands for it among its tokens.

    CLIP's preparation, as transformers' `CLIPImageProcessor` does it: the shorter side becomes
    `size` (bicubic), the middle is cut out, colours are scaled to mean and deviation.
    """

    size: int
    """Pixels of a side."""
    patch: int
    """Pixels of a side of what becomes one token."""
    token: int
    """Id of the placeholder."""
    mean: tuple[float, ...] = (0.48145466, 0.4578275, 0.40821073)
    deviation: tuple[float, ...] = (0.26862954, 0.26130258, 0.27577711)

    def __post_init__(self) -> None:
        numbers = (*self.mean, *self.deviation)
        if (
            not 0 < self.patch <= self.size <= MAX_SIDE
            or not 0 < self.tokens <= MAX_TOKENS
            or len(self.mean) != 3
            or len(self.deviation) != 3
            or not all(map(math.isfinite, numbers))
            or min(self.deviation) <= 0
        ):
            raise ValueError(f"no model sees like this: {self}")

    @property
    def tokens(self) -> int:
        """Number of tokens that stand for a picture."""
        return (self.size // self.patch) ** 2

    def values(self, picture: Picture) -> Values:
        """Returns a picture as the model takes it; [3, size, size], float32."""
        import numpy as np

        scaled = _fitted(picture, self.size).astype(np.float32) * np.float32(1 / 255)
        mean, deviation = (np.array(x, np.float32) for x in (self.mean, self.deviation))
        return ((scaled - mean) / deviation).transpose(2, 0, 1)


@dataclass(frozen=True)
class Shown:
    """A picture, and how the model that it is shown to takes it."""

    picture: Picture
    how: ImageInput

    def values(self) -> Values:
        """Returns what the model sees; [3, size, size], float32."""
        return self.how.values(self.picture)


@lru_cache(maxsize=KEPT)
def _fitted(picture: Picture, size: int) -> Pixels:
    """Returns a picture with `size` for its shorter side, and of the longer one the middle."""
    import numpy as np

    pixels = picture.pixels()
    height, width = pixels.shape[:2]
    if min(height, width) != size:
        short = min(height, width)
        height, width = (int(side * size / short) for side in (height, width))
        image = pillow().fromarray(pixels)
        pixels = np.asarray(image.resize((width, height), pillow().Resampling.BICUBIC))
    top, left = (height - size) // 2, (width - size) // 2
    return pixels[top : top + size, left : left + size]


def pillow() -> Any:
    """Returns Pillow's `Image` module.

    Raises:
        DataError: If it is not installed.
    """
    try:
        from PIL import Image
    except ImportError:
        raise DataError(
            "pictures in files, and of another size than the model's, need Pillow, which is not "
            "installed",
            "pip install 'unlearn-runner[vision]'",
        ) from None
    return Image
