"""Scenes: pictures of one coloured shape on a background, drawn from numbers alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from unlearn_runner.data.picture import Picture

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from unlearn_runner.data.picture import Pixels

    Mask = NDArray[np.bool_]

COLOURS = {
    "red": (220, 40, 40),
    "green": (40, 180, 60),
    "blue": (50, 80, 220),
    "yellow": (230, 210, 40),
}
SHAPES = ("circle", "square", "triangle", "cross")
BACKGROUNDS = ("plain", "striped", "dotted", "checked")
"""In the order of the shapes that they go with where the two are correlated."""
GRAIN = 8.0
"""Standard deviation of the noise on each colour."""


@dataclass(frozen=True)
class Scene(Picture):
    """One shape on one background."""

    shape: str
    colour: str
    background: str
    x: float
    """Of the middle, in parts of the side; so are `y` and `radius`."""
    y: float
    radius: float
    grain: int
    """Seed of the noise."""
    side: int = 32
    """Pixels."""

    @property
    def identity(self) -> str:
        """Its settings."""
        return repr(self)

    def pixels(self) -> Pixels:
        """Draws it."""
        import numpy as np

        rows, columns = np.mgrid[: self.side, : self.side] / self.side
        grey = _greys(self.background, rows * 32, columns * 32)
        found = np.repeat(grey[..., None], 3, axis=2)
        found[self._inside(rows, columns)] = COLOURS[self.colour]
        found += np.random.default_rng(self.grain).normal(0, GRAIN, found.shape)
        return found.clip(0, 255).astype(np.uint8)

    def _inside(self, rows: NDArray[np.float64], columns: NDArray[np.float64]) -> Mask:
        """Returns where the shape is."""
        down, across, r = rows - self.y, abs(columns - self.x), self.radius
        if self.shape == "circle":
            return down**2 + across**2 <= r**2
        if self.shape == "square":
            return (abs(down) <= 0.85 * r) & (across <= 0.85 * r)
        if self.shape == "triangle":
            return (down <= 0.8 * r) & (across <= 0.55 * (down + r))
        bar = 0.3 * r
        return ((across <= bar) & (abs(down) <= r)) | ((abs(down) <= bar) & (across <= r))


def _greys(
    background: str, rows: NDArray[np.float64], columns: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Returns the brightness of a background at 32nds of the side."""
    import numpy as np

    if background == "striped":
        return np.where(rows // 4 % 2, 70.0, 150.0)
    if background == "checked":
        return np.where((rows // 4 + columns // 4) % 2, 70.0, 150.0)
    if background == "dotted":
        return np.where((rows % 8 - 4) ** 2 + (columns % 8 - 4) ** 2 < 6, 160.0, 80.0)
    return np.full(rows.shape, 110.0)
