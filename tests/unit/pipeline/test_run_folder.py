"""A run folder's configuration survives a full disk; places that cannot be written are refused."""

from __future__ import annotations

import resource
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from unlearn_runner.errors import ConfigError, UserError
from unlearn_runner.pipeline.job import CONFIG, PlannedJob, plan_config, refuse_other_configuration
from unlearn_runner.pipeline.runner import _open_record
from unlearn_runner.run import main
from unlearn_runner.sweeps.grid import Grid
from unlearn_runner.utils.disk import disk_errors


def planned(outputs: Path, *overrides: str) -> PlannedJob:
    """Returns the job of a command line."""
    with Grid(["debug=tiny", f"output_dir={outputs}", *overrides], []).opened() as grid:
        composed = grid.compose([])
    return plan_config(composed.config, lambda _: "runs/mine", composed.choices)


@contextmanager
def full_disk() -> Iterator[None]:
    """Lets no file grow beyond a hundred bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_leaves_the_configuration_as_it_was(tmp_path: Path) -> None:
    job = planned(tmp_path)
    _open_record(job)
    path = job.folder / CONFIG
    before = path.read_text()
    assert "forget" in before
    with pytest.raises(UserError, match="cannot be written"), disk_errors(job.folder), full_disk():
        _open_record(job)
    assert path.read_text() == before
    refuse_other_configuration(job)
    with pytest.raises(ConfigError, match="another configuration"):
        refuse_other_configuration(planned(tmp_path, "train.lr=0.1"))


UNREADABLE = (
    *(b"", b"\n", b"[]", b"5", b"a: [", b"\xff\xfe", b"a: ${b", b"a: &x [*x]", b"[" * 5000, b"\0"),
    b"!!python/name:os.system",
)


@pytest.mark.parametrize("content", UNREADABLE)
def test_a_configuration_that_cannot_be_read_counts_as_absent_and_is_said(
    tmp_path: Path, content: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    job = planned(tmp_path)
    job.folder.mkdir(parents=True)
    (job.folder / CONFIG).write_bytes(content)
    refuse_other_configuration(job)
    assert f"{job.folder / CONFIG} cannot be read" in capsys.readouterr().err
    _open_record(job)
    refuse_other_configuration(job)
    assert capsys.readouterr().err == ""


PLACES = [
    "output_dir={file}",
    "output_dir={file}/below",
    "store={file}",
    'output_dir="~nobody-here/x"',
    'store="~nobody-here/x"',
    "output_dir=/sys/here",
    f"name={'a' * 300}",
]


@pytest.mark.parametrize("sweeping", [False, True], ids=["run", "sweep"])
@pytest.mark.parametrize("place", PLACES)
def test_a_place_that_cannot_be_written_is_two_lines(
    tmp_path: Path,
    place: str,
    sweeping: bool,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    if sweeping and place == "store={file}":  # then each job of the sweep says so
        return
    (tmp_path / "file").write_text("mine")
    words = place.format(file=tmp_path / "file").split()
    if "output_dir" not in place:
        words.append(f"output_dir={tmp_path / 'free'}")
    more = ["-m", "seed=1,2"] if sweeping else []
    monkeypatch.setattr(sys, "argv", ["unlearn", *more, "debug=tiny", *words])
    assert main() == 2
    said = [s for s in capsys.readouterr().err.splitlines() if not s.startswith("sweep ")]
    assert [s.partition(":")[0] for s in said] == ["error", "fix"][: len(said)], said
    assert len(said) == 2 or "allowed: " in said[0], said
    assert (tmp_path / "file").read_text() == "mine"
