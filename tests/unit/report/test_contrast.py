"""Colors of the report: contrast of WCAG 2.1 AA on a light screen, on a dark one, and on paper."""

from __future__ import annotations

import re
from itertools import product
from pathlib import Path

import pytest

from unlearn_runner.report import svg

PAGE = Path(svg.__file__).parent / "page"
FILES = ("page.css", "figure.css")
TEXT, GRAPHIC = 4.5, 3.0
"""Least ratios of success criteria 1.4.3 (text) and 1.4.11 (what is drawn)."""
COLORS = tuple(f"c{i}" for i in range(8))


def schemes(file: str) -> list[dict[str, str]]:
    """The named colors of a file: of a light screen, then what a dark one and paper change."""
    text = (PAGE / file).read_text(encoding="utf-8")
    blocks = re.findall(r"(?:^|\{|\}) *(?::root|\.fig) \{([^}]*--ink[^}]*)\}", text, re.MULTILINE)
    found = [dict(re.findall(r"--(\w+): (#[0-9a-f]{3,6})", block)) for block in blocks]
    assert len(found) == 3
    return [found[0] | other for other in found]


def luminance(color: str) -> float:
    digits = color[1:] if len(color) == 7 else "".join(2 * c for c in color[1:])
    parts = [int(digits[i : i + 2], 16) / 255 for i in (0, 2, 4)]
    linear = [x / 12.92 if x <= 0.03928 else ((x + 0.055) / 1.055) ** 2.4 for x in parts]
    return sum(w * x for w, x in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def ratio(one: str, other: str) -> float:
    low, high = sorted(map(luminance, (one, other)))
    return (high + 0.05) / (low + 0.05)


def test_the_ratio_is_wcag_s() -> None:
    assert ratio("#000", "#fff") == pytest.approx(21)
    assert ratio("#777777", "#fff") == pytest.approx(4.48, abs=0.005)  # a known near miss


@pytest.mark.parametrize("scheme", range(3))
def test_text_on_the_page_and_on_bands(scheme: int) -> None:
    colors = schemes("page.css")[scheme]
    for text, ground in product(("ink", "soft", "link", "warn"), ("bg", "band")):
        assert ratio(colors[text], colors[ground]) >= TEXT, (text, ground)
    # A heat map's cell is any color between these two, its text is ink.
    for ground in ("lo", "hi"):
        assert ratio(colors["ink"], colors[ground]) >= TEXT, ground


@pytest.mark.parametrize(("scheme", "file"), product(range(3), FILES))
def test_lines_and_markers_and_their_numbers(scheme: int, file: str) -> None:
    colors = schemes(file)[scheme]
    for name in COLORS:  # curves are numbered in their own color
        assert ratio(colors[name], colors["bg"]) >= TEXT, name
    if "faint" in colors:  # runs that do not stand out
        assert ratio(colors["faint"], colors["bg"]) >= GRAPHIC


def test_ticks_of_a_narrow_range_are_told_apart() -> None:
    for low, high in ((0.0029092, 0.0029141), (123456.1, 123456.9), (1e-9, 1.00001e-9)):
        ticks = svg.Scale(low, high, 0, 100).ticks()
        names = [name for _, name in ticks]
        assert len(names) >= 2
        assert len(set(names)) == len(names)
