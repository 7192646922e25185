"""The wheel: conf/ inside, commands that work from any folder; and whose commit a run records."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import zipfile
from pathlib import Path

import pytest

from unlearn_runner.config.groups import CONF
from unlearn_runner.tracking import provenance

ROOT = Path(__file__).resolve().parents[2]


def sh(cwd: Path, *words: str, path: str = "") -> subprocess.CompletedProcess[str]:
    env = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "RANK", "WORLD_SIZE")}
    env |= {"OMP_NUM_THREADS": "1", "COLUMNS": "200"} | ({"PYTHONPATH": path} if path else {})
    return subprocess.run(words, cwd=cwd, env=env, capture_output=True, text=True, timeout=1800)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this checkout, built where nothing of an earlier build lies about."""
    pytest.importorskip("setuptools")
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in ("unlearn_runner", "conf"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    code = f"from setuptools import build_meta as b; b.build_wheel({str(out)!r})"
    done = sh(source, sys.executable, "-c", code)
    assert done.returncode == 0, done.stderr
    return next(out.glob("*.whl"))


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Where its files are, as after pip install: a folder for PYTHONPATH."""
    folder = tmp_path_factory.mktemp("site")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    return str(folder)


def test_the_wheel_has_the_package_with_all_of_its_data(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    options = {f"unlearn_runner/conf/{p.relative_to(CONF).as_posix()}" for p in CONF.rglob("*.y*")}
    code = {p.relative_to(ROOT).as_posix() for p in (ROOT / "unlearn_runner").rglob("*.py")}
    package = ROOT / "unlearn_runner"
    data = (p for folder in ("report/page", "config") for p in (package / folder).glob("*.*"))
    assert options | code | {p.relative_to(ROOT).as_posix() for p in data} <= names
    tops = {name.split("/")[0] for name in names}
    assert {top for top in tops if ".dist-info" not in top} == {"unlearn_runner"}


def test_the_base_install_asks_for_no_extra() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    assert extras["dev"][-1] == "unlearn-runner[wandb,tensorboard,slurm,search,moo]"
    base = {name_of(wanted) for wanted in project["dependencies"]}
    assert {"torch", "hydra-core"} <= base
    for extra, packages in extras.items():
        assert not base & {name_of(wanted) for wanted in packages}, extra


def name_of(requirement: str) -> str:
    return re.split(r"[^\w-]", requirement)[0]


def test_an_installed_copy_works_from_an_empty_folder(installed: str, tmp_path: Path) -> None:
    unlearn = (sys.executable, "-m", "unlearn_runner")
    version = sh(tmp_path, *unlearn, "--version", path=installed)
    assert (version.stdout, version.stderr) == ("unlearn-runner 0.1.0\n", "")
    assert "gru_gamma_tau" in sh(tmp_path, *unlearn, "--help", path=installed).stdout
    planned = sh(tmp_path, *unlearn, "debug=tiny", "plan_only=true", path=installed)
    assert (planned.returncode, planned.stderr) == (0, "")
    assert "runs/pocket-gd-gru,debug=tiny" in planned.stdout
    where = "from unlearn_runner.config.groups import CONF, outputs; print(CONF, outputs())"
    assert sh(tmp_path, sys.executable, "-c", where, path=installed).stdout.split() == [
        f"{installed}/unlearn_runner/conf",
        f"{tmp_path}/outputs",
    ]
    assert list(tmp_path.iterdir()) == []


def test_a_copy_inside_another_repository_records_no_commit(installed: str, tmp_path: Path) -> None:
    if shutil.which("git") is None:
        pytest.skip("needs git")
    git = ("git", "-c", "user.name=x", "-c", "user.email=x@y")
    sh(tmp_path, *git, "init", "-q")
    sh(tmp_path, *git, "commit", "-q", "--allow-empty", "-m", "another project")
    show = "from unlearn_runner.tracking.provenance import commit; print(commit())"

    def recorded(folder: Path) -> str:
        return sh(folder, sys.executable, "-c", show, path=str(folder)).stdout.strip()

    place = tmp_path / "vendor"
    shutil.copytree(Path(installed) / "unlearn_runner", place / "unlearn_runner")
    assert recorded(place) == "None"
    sh(tmp_path, *git, "add", "vendor")
    sh(tmp_path, *git, "commit", "-q", "-m", "with the runner in it")
    assert recorded(place) == "None"  # a commit of that project says nothing of the runner
    # As a checkout of its own: the commit, marked by changed files, and by no new ones.
    sh(place, *git, "init", "-q")
    sh(place, *git, "add", ".")
    sh(place, *git, "commit", "-q", "-m", "the runner")
    head = sh(place, *git, "rev-parse", "HEAD").stdout.strip()
    (place / "notes.txt").write_text("mine")
    assert recorded(place) == head
    (place / "unlearn_runner" / "run.py").write_text("# edited\n")
    assert recorded(place) == f"{head}+changes"


def test_this_checkout_records_its_own_commit() -> None:
    head = sh(ROOT, "git", "rev-parse", "HEAD").stdout.strip()
    assert (provenance.commit() or head).removesuffix("+changes") == head


@pytest.mark.long
def test_the_wheel_in_a_fresh_environment_runs_to_its_table(wheel: Path, tmp_path: Path) -> None:
    sh(tmp_path, sys.executable, "-m", "venv", "venv")
    (site,) = (tmp_path / "venv" / "lib").glob("*/site-packages")
    # What it depends on is here already; its own .pth files are not read from there.
    (site / "base.pth").write_text(sysconfig.get_paths()["purelib"])
    pip = (str(tmp_path / "venv/bin/python"), "-m", "pip", "install", "--no-deps", "--no-index")
    assert sh(tmp_path, *pip, str(wheel)).returncode == 0
    empty = tmp_path / "empty"
    empty.mkdir()
    done = sh(empty, str(tmp_path / "venv/bin/unlearn"), "debug=tiny", "parallel.threads=1")
    assert done.returncode == 0, done.stderr
    assert "model_utility" in done.stdout
    assert [path.name for path in empty.iterdir()] == ["outputs"]
    assert (empty / "outputs/runs/pocket-gd-gru,debug=tiny/results.json").is_file()
