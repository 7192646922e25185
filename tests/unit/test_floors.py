"""`make check` refuses an import that goes up, wherever it stands, and forgives none."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tomllib
from itertools import pairwise
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = "unlearn_runner"
LINTER = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["importlinter"]
LAYERS = next(c for c in LINTER["contracts"] if c["type"] == "layers")
FORMS = {
    "at the top of a module": "{line}\n",
    "inside a function": "def _late():\n    {line}\n",
    "under TYPE_CHECKING": "from typing import TYPE_CHECKING\n\nif TYPE_CHECKING:\n    {line}\n",
}
COMMAND = "from importlinter.cli import lint_imports_command; lint_imports_command()"


def floors() -> list[str]:
    """Returns the rooms that there are, from the top down."""
    names = [name.strip("()") for layer in LAYERS["layers"] for name in layer.split("|")]
    home = ROOT / PACKAGE
    return [n for n in names if (home / n).is_dir() or (home / f"{n}.py").is_file()]


def lint(folder: Path) -> subprocess.CompletedProcess[str]:
    """Runs `lint-imports`, as `make check` does, on the copy in a folder."""
    return subprocess.run(
        [sys.executable, "-c", COMMAND, "--no-cache"], cwd=folder, capture_output=True, text=True
    )


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A copy of the package and of its contracts."""
    leave = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / PACKAGE, tmp_path / PACKAGE, ignore=leave)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def deepest(room: Path) -> Path:
    """Returns a module of a room, as far inside as there is one."""
    if not room.is_dir():
        return room.with_suffix(".py")
    found = (p for p in room.rglob("*.py") if p.name != "__init__.py")
    return max(found, key=lambda path: (len(path.parts), path.as_posix()))


def test_the_package_keeps_its_contracts_and_no_import_is_excused(copy: Path) -> None:
    done = lint(copy)
    assert done.returncode == 0, done.stdout
    assert "0 broken" in done.stdout
    assert LINTER["exclude_type_checking_imports"] is False
    assert LAYERS["exhaustive"] is True
    assert all("ignore_imports" not in contract for contract in LINTER["contracts"])
    check = (ROOT / "Makefile").read_text("utf-8").partition("\ncheck:")[2].partition("\n\n")[0]
    assert "lint-imports" in check


@pytest.mark.parametrize("form", FORMS)
def test_an_import_that_goes_up_is_refused_in_every_room(copy: Path, form: str) -> None:
    rooms = floors()
    assert len(rooms) > 15
    for above, below in pairwise(rooms):
        path = deepest(copy / PACKAGE / below)
        before = path.read_text("utf-8")
        line = f"from {PACKAGE} import {above}"
        path.write_text(before + "\n\n" + FORMS[form].format(line=line), encoding="utf-8")
        done = lint(copy)
        module = ".".join(path.relative_to(copy).with_suffix("").parts)
        assert done.returncode == 1, (module, above)
        assert f"{module} -> {PACKAGE}.{above}" in done.stdout.replace("\n", " "), done.stdout
        path.write_text(before, encoding="utf-8")
    assert lint(copy).returncode == 0


def test_a_module_beside_the_rooms_and_a_circle_inside_one_are_refused(copy: Path) -> None:
    loose = copy / PACKAGE / "loose.py"
    loose.write_text('"""A module of no room."""\n')
    done = lint(copy)
    assert done.returncode == 1
    assert "loose" in done.stdout
    loose.unlink()
    for name, other in (("one", "two"), ("two", "one")):
        text = f"def _late():\n    from {PACKAGE}.utils import {other}\n"
        (copy / PACKAGE / "utils" / f"{name}.py").write_text(text)
    done = lint(copy)
    assert done.returncode == 1
    assert "No circles" in done.stdout
