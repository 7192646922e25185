"""What a failed rank leaves on the screen: the sentence that matters, not its traceback."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from unlearn_runner.distributed import launch
from unlearn_runner.distributed.ddp import DDP
from unlearn_runner.utils import process

TRACE = """\
unlearn: 3/60
Traceback (most recent call last):
  File "x.py", line 1, in <module>
    boom()
RuntimeError: boom
and why
"""


@pytest.mark.parametrize(
    ("printed", "expected"),
    [
        ("", ""),
        ("error: a\nfix: b", "error: a\nfix: b"),
        (TRACE, "RuntimeError: boom"),
        ("Traceback (most recent call last):\n  File", ""),
        ("Traceback (most recent call last):", "Traceback (most recent call last):"),
        ("\n".join(map(str, range(40))), "\n".join(map(str, range(28, 40)))),
    ],
)
def test_of_what_was_printed_only_the_error_is_shown(printed: str, expected: str) -> None:
    assert launch.summarized(printed) == expected


MODULE = """\
import os, sys, time
rank = int(os.environ["RANK"])
sys.stdin.readline()
if rank == {failing}:
    {action}
time.sleep(60)
"""


@pytest.mark.parametrize(
    ("action", "code", "cause", "shown"),
    [
        ("raise RuntimeError('boom')", 1, "rank 1 ended with exit code 1", ["RuntimeError: boom"]),
        ("os.kill(os.getpid(), 9)", 1, "rank 1 was killed by SIGKILL", []),
        ("print('error: no'); sys.exit(2)", 2, "rank 1 ended with exit code 2", ["error: no"]),
    ],
)
def test_the_sentence_that_matters_follows_one_line(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    action: str,
    code: int,
    cause: str,
    shown: list[str],
) -> None:
    (tmp_path / "failing_rank.py").write_text(MODULE.format(failing=1, action=action))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(launch, "GRACE_S", 0.5)
    told: list[tuple[str, str]] = []
    task = launch.Launch("failing_rank", "", "THE COMMAND", lambda *what: told.append(what))
    assert launch.start(task, DDP(ranks=2, threads=1)) == code
    lines = capfd.readouterr().err.splitlines()
    assert lines == [*shown, f"{cause}; the other ranks were ended", "to continue: THE COMMAND"]
    ((found, printed),) = told
    assert found == cause
    assert ("Traceback" in printed) is ("raise" in action), "the whole of it goes to the run folder"


def failing(note: str | None) -> Callable[[str], int]:
    def work(_: str) -> int:
        error = RuntimeError("boom\nand more")
        if note:
            error.add_note(note)
        raise error

    return work


def test_a_traceback_that_stands_in_a_file_is_not_printed_again(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert process._code(failing(f"{process.TRACEBACK}FILE"), "") == 1
    assert capsys.readouterr().err == "RuntimeError: boom (traceback: FILE)\n"
    for note in (None, "of a library"):
        assert process._code(failing(note), "") == 1
        assert "Traceback (most recent call last)" in capsys.readouterr().err
