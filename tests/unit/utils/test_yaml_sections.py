"""YAML of run folders, read part by part: the same as the whole, whatever it looks like."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from unlearn_runner.config.groups import CONF
from unlearn_runner.utils.untrusted import UntrustedError, plain, read_yaml

TEXTS = [
    "a: 1\nb:\n- 1\n- c: 2\n\nd: {e: [1, 2]}\n# end\n",
    "a: 'x\n  y: z'\nb: |\n  a: 2\n  c\nd: 3\n",
    'a: "x\\\n  y"\nb: >-\n  one\n\n  two\n',
    "a: 1\na: 2\n",
    "---\na: 1\n",
    "'a b': 1\n? c\n: 2\n",
    "a:\n  b: 1\r\nc: 2\r\n",
    "{a: 1, b: 2}\n",
]


@pytest.mark.parametrize("text", TEXTS)
def test_parts_are_the_whole(text: str, tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(text, encoding="utf-8", newline="")
    assert read_yaml(path) == plain(yaml.safe_load(text))


def test_our_own_files_read_the_same() -> None:
    paths = [path for path in CONF.rglob("*.yaml") if yaml.safe_load(path.read_text("utf-8"))]
    assert len(paths) > 40
    for path in paths:
        assert read_yaml(path) == plain(yaml.safe_load(path.read_text("utf-8"))), path


def test_what_refers_to_another_part_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("a: &x [1]\nb: *x\n", encoding="utf-8")
    with pytest.raises(UntrustedError):
        read_yaml(path)
