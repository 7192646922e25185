"""Names beside points, placed so that they cover as little as possible."""

from __future__ import annotations

from unlearn_runner.report import svg

Box = tuple[float, float, float, float]
"""Left, top, right and bottom in pixels."""


def label(
    kind: str, content: str, x: float, y: float, away: float, area: Box, occupied: list[Box]
) -> str:
    """Returns a name beside a point, where it covers no other; the first place if all do.

    Args:
        kind: Its class.
        content: The name.
        x: Pixel of the point.
        y: Pixel of the point.
        away: Pixels between point and name.
        area: Where names may be: left, top, right, bottom.
        occupied: Where something is already; the name is added.
    """
    width = 7.0 * len(content)
    spots = (
        (x + away, y - 4, "start"),
        (x - away, y - 4, "end"),
        (x + away, y + 13, "start"),
        (x - away, y + 13, "end"),
        (x, y - away - 3, "middle"),
        (x, y + away + 11, "middle"),
    )
    best = spots[0]
    for spot in spots:
        box = _covers(spot, width)
        inside = box[0] > area[0] and box[1] > area[1] and box[2] < area[2] and box[3] < area[3]
        if inside and not any(_meet(box, other) for other in occupied):
            best = spot
            break
    occupied.append(_covers(best, width))
    return svg.words(kind, *best[:2], content, best[2])


def _covers(spot: tuple[float, float, str], width: float) -> Box:
    x, y, anchor = spot
    left = x - {"start": 0.0, "middle": width / 2, "end": width}[anchor]
    return (left, y - 10, left + width, y + 2)


def around(x: float, y: float, far: float) -> Box:
    """Returns the square around a point."""
    return (x - far, y - far, x + far, y + far)


def _meet(one: Box, other: Box) -> bool:
    apart = one[2] <= other[0] or other[2] <= one[0] or one[3] <= other[1] or other[3] <= one[1]
    return not apart
