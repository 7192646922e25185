"""What the documents link to, or name as a path, is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = [*ROOT.glob("*.md"), *sorted((ROOT / "docs").rglob("*.md"))]
LINK = re.compile(r"\]\(([^)#\s]+)")
PATH = re.compile(r"`((?:docs|tests|scripts|benchmarks|conf|unlearn_runner)/[a-z0-9_./]+)`")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_and_paths_lead_somewhere(page: Path) -> None:
    text = page.read_text("utf-8")
    links = (page.parent / link for link in LINK.findall(text) if not link.startswith("http"))
    assert not [link for link in links if not link.exists()]
    # A decision may stand for its file by its number: docs/decisions/0012.
    named = PATH.findall(text)
    assert not [name for name in named if not list(ROOT.glob(name.rstrip("/") + "*"))]
