"""Child processes: a rank, a job of a sweep, and their owner's side.

A child's task is the first line of its standard input. When that input ends its owner is gone, and
it ends, too: nobody else would end it.
"""

from __future__ import annotations

import gc
import os
import shlex
import signal
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, NoReturn

from unlearn_runner.errors import FAILURE, SIGNALLED, USAGE_ERROR, UserError
from unlearn_runner.utils import signals
from unlearn_runner.utils.redact import redacted

TRACEBACK = "traceback: "
"""Begins the note of an error whose traceback stands in a file already."""


@contextmanager
def few_collections() -> Iterator[None]:
    """Lets Python look for garbage rarely: composing and planning make many objects that stay."""
    before = gc.get_threshold()
    gc.set_threshold(100_000, *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)


def start_child(module: str, task: str, **options: Any) -> subprocess.Popen[Any]:
    """Starts a child and hands it its task; it gets signals as soon as it catches them.

    Args:
        module: Run with `python -m`; it calls `run_child`.
        task: One line. The pipe stays open behind it, for its end means that we are gone.
        options: Of `subprocess.Popen`.
    """
    command = [sys.executable, "-m", module]
    with signals.block_signals():
        child = subprocess.Popen(command, stdin=subprocess.PIPE, text=True, **options)
    assert child.stdin is not None
    with suppress(BrokenPipeError):  # it died at once; whoever waits for it will find out
        child.stdin.write(task + "\n")
        child.stdin.flush()
    return child


def run_child(work: Callable[[str], int]) -> NoReturn:
    """Runs a child's task, and exits with its code, or with the one of what ended it."""
    text = sys.stdin.readline()
    threading.Thread(target=_die_with_the_owner, daemon=True).start()
    code = _code(work, text)
    sys.stdout.flush()
    sys.stderr.flush()
    # Threads of libraries, and of process groups whose peers are gone, can abort a plain exit.
    os._exit(code)


def _die_with_the_owner() -> None:
    sys.stdin.read()
    os.kill(os.getpid(), signal.SIGKILL)


def _code(work: Callable[[str], int], text: str) -> int:
    with signals.catch_signals():
        try:
            return work(text)
        except UserError as error:
            print(redacted(str(error)), file=sys.stderr)
            return USAGE_ERROR
        except KeyboardInterrupt as error:
            return SIGNALLED + getattr(error, "number", signal.SIGINT)
        except Exception as error:
            # Where ranks end one by one, the last ones lose their connections.
            if number := signals.requested():
                return SIGNALLED + number
            saved = [n for n in getattr(error, "__notes__", ()) if n.startswith(TRACEBACK)]
            if saved:
                problem = (str(error).splitlines() or [""])[0][:160]
                print(redacted(f"{type(error).__name__}: {problem} ({saved[0]})"), file=sys.stderr)
            else:
                print(redacted(traceback.format_exc()), file=sys.stderr)
            return FAILURE


def command(arguments: list[str] | None = None) -> str:
    """Returns a command line, this process's by default, as it can be typed again; no secrets."""
    words = sys.argv[1:] if arguments is None else arguments
    kept = (redacted(word) for word in words if "hydra.sweep.dir=" not in word)
    return shlex.join(["unlearn", *kept])


def prepare_process() -> None:
    """Sets what must stand in the environment before Hydra and torch are loaded."""
    # Hydra swallows the cause of an error and exits by itself unless this is set.
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")
    # Before torch: OpenMP threads that spin while they wait stall each other, several times over,
    # as soon as another job shares a core.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def is_alive(pid: object) -> bool:
    """Returns whether a process of this machine has this id, which may be anything a file says."""
    if not isinstance(pid, int) or isinstance(pid, bool) or pid <= 0:
        return False
    try:
        os.kill(pid, 0)
    except PermissionError:
        return True  # somebody else's
    except (ProcessLookupError, OverflowError):
        return False
    return True
