"""Names from files stay inside their folder; files are written whole, read without trust."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from unlearn_runner.utils.files import OutsideError, inside, read_object, sha256, write_text
from unlearn_runner.utils.process import is_alive

HOSTILE = [
    "",
    ".",
    "..",
    "../victim",
    "a/../../victim",
    "a/..",
    "/etc/passwd",
    "//etc/passwd",
    "a//b",
    "a/",
    "./a",
    "a\0b",
    "\ud800",
    None,
    5,
    1.5,
    True,
    ["a"],
    {"a": "b"},
    b"a",
    "link_out/x",
    "link_out",
    "link_file",
    "chain",
    "dangling_out",
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    home = tmp_path / "home"
    (home / "a").mkdir(parents=True)
    (tmp_path / "homely").mkdir()
    (tmp_path / "victim").write_text("v")
    (home / "link_out").symlink_to(tmp_path)
    (home / "link_file").symlink_to("../victim")
    (home / "chain").symlink_to("link_file")
    (home / "dangling_out").symlink_to("/nowhere/at/all")
    (home / "link_in").symlink_to("a")
    (home / "sibling").symlink_to("../homely")
    return home


@pytest.mark.parametrize("name", [*HOSTILE, "sibling"], ids=repr)
def test_a_hostile_name_is_not_joined(folder: Path, name: object) -> None:
    with pytest.raises(OutsideError):
        inside(folder, name)


@pytest.mark.parametrize("name", ["a", "a/b", "..a", "a..b", "link_in/x", "new", "ä ö.json", "~"])
def test_an_ordinary_name_is(folder: Path, name: str) -> None:
    assert inside(folder, name) == folder / name


def test_links_may_lead_into_a_named_folder_around_it(folder: Path) -> None:
    assert inside(folder, "link_file", within=folder.parent) == folder / "link_file"
    with pytest.raises(OutsideError):
        inside(folder, "dangling_out", within=folder.parent)
    with pytest.raises(OutsideError):
        inside(folder, "../victim", within=folder.parent)


def test_the_folder_may_itself_be_reached_by_a_link(folder: Path) -> None:
    link = folder.parent / "linked"
    link.symlink_to(folder)
    assert inside(link, "a/b") == link / "a/b"


@pytest.mark.parametrize(
    "text", ["", "[]", "5", "{", "[" * 100_000, '{"a": ' * 100_000, '{"n": %s}' % ("9" * 5000)]
)
def test_what_is_no_object_reads_as_none(tmp_path: Path, text: str) -> None:
    path = tmp_path / "x.json"
    path.write_text(text)
    assert read_object(path) is None
    assert read_object(tmp_path) is None
    assert read_object(tmp_path / "absent") is None


def test_bytes_that_are_no_text_read_as_none(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"\xff\xfe{}")
    assert read_object(tmp_path / "x") is None


def test_a_text_that_cannot_be_written_leaves_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    write_text(path, "old")
    with pytest.raises(UnicodeEncodeError):
        write_text(path, "\ud800")
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["config.yaml"]


def test_what_a_killed_writer_left_goes_with_the_next_writing(tmp_path: Path) -> None:
    """Of this file alone, and not what a living process, or one elsewhere, is still writing."""
    host = socket.gethostname()
    code = f"""
import os, pathlib, signal
import unlearn_runner.utils.files as files
files.os.replace = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
files.write_text(pathlib.Path({str(tmp_path)!r}) / "a.json", "half")
"""
    killed = subprocess.Popen([sys.executable, "-c", code])
    assert killed.wait() == -signal.SIGKILL
    assert os.listdir(tmp_path) == [f".a.json.{host}.{killed.pid}"]
    others = {f".a.json.{host}.{os.getpid()}0x", f".b.json.{host}.{killed.pid}"}
    others |= {f".a.json.{host}.{os.getppid()}", f".a.json.{host}x.{killed.pid}"}
    for name in others:
        (tmp_path / name).touch()
    write_text(tmp_path / "a.json", "whole")
    assert set(os.listdir(tmp_path)) == {"a.json", *others}


def test_sha256_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("hello")
    assert sha256(tmp_path / "x").startswith("2cf24dba5fb0a30e26e83b2ac5b9e29e")


@pytest.mark.parametrize("pid", [10**30, -1, 0, 1.5, True, "a", None, [1], 2**31, -(10**30)])
def test_what_is_no_process_is_not_alive(pid: object) -> None:
    assert not is_alive(pid)
    assert is_alive(os.getpid())
