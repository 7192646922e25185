"""The documents as a site: every page is reached, and a link that leads nowhere is refused."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"


def pages_of(nav: object) -> list[str]:
    if isinstance(nav, str):
        return [nav]
    items = nav.values() if isinstance(nav, dict) else nav if isinstance(nav, list) else ()
    return [page for item in items for page in pages_of(item)]


def test_every_page_is_in_the_navigation_once() -> None:
    nav = yaml.safe_load((ROOT / "mkdocs.yml").read_text("utf-8"))["nav"]
    there = {path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md")}
    decisions = {page for page in there if page.startswith("decisions/0")}
    assert sorted(pages_of(nav)) == sorted(there - decisions)


def test_every_decision_is_listed_under_its_own_title() -> None:
    listed = re.findall(r"\[(.+)\]\((.+\.md)\)", (DOCS / "decisions/index.md").read_text("utf-8"))
    found = sorted((DOCS / "decisions").glob("0*.md"))
    titles = [path.read_text("utf-8").splitlines()[0].removeprefix("# ") for path in found]
    assert listed == list(zip(titles, [path.name for path in found], strict=True))


def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    pytest.importorskip("mkdocstrings", reason="needs the extra docs")
    build = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir"]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(
        [*build, str(tmp_path / "site")], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    methods = (tmp_path / "site/reference/methods.html").read_text("utf-8")
    assert "Inverse temperature; beta -&gt; 0 approaches gradient ascent." in methods
