"""Commands in processes of their own that have the libraries of composing loaded already.

Loading Hydra and pydantic takes a second, and most commands of the tests end right after. Each of
these processes is forked off one that has loaded those and done nothing else.
"""

from __future__ import annotations

import os
import runpy
import sys
import traceback
from collections.abc import Mapping, Sequence
from multiprocessing import get_context
from pathlib import Path
from subprocess import CompletedProcess
from tempfile import TemporaryDirectory
from typing import Any

LOADED = (
    "unlearn_runner.run",
    "unlearn_runner.pipeline.job",
    "unlearn_runner.config.hydra_app",
    "hydra",
)
LOADED += (
    "unlearn_runner.config.origins",
    "unlearn_runner.sweeps.sweep",
    "unlearn_runner.evaluation.benchmarks.qa",
)

_server = get_context("forkserver")
_server.set_forkserver_preload([*LOADED])


def run(
    module: str, arguments: Sequence[str], cwd: Path, env: Mapping[str, str]
) -> CompletedProcess[str]:
    """Runs `python -m module arguments` as a shell would; the code is -1 where a signal ends it."""
    with TemporaryDirectory() as aside:
        written = [Path(aside) / name for name in ("out", "err", "code")]
        order = (module, [*arguments], str(cwd), dict(env), *map(str, written))
        process: Any = _server.Process(target=_carry_out, args=order)
        process.start()
        process.join(300)
        assert process.exitcode is not None, f"{module} {arguments} does not end"
        out, err, code = (path.read_text() if path.exists() else "" for path in written)
        # Not `exitcode`: starting a process reads the codes of all others of this one, and of two
        # threads that read the same code at once, the later is told 255.
        return CompletedProcess([module, *arguments], int(code or -1), out, err)


def _carry_out(
    module: str, arguments: list[str], cwd: str, env: dict[str, str], *written: str
) -> None:
    assert "torch" not in sys.modules
    out, err, ended = written
    for number, path in ((1, out), (2, err)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
    sys.stdout, sys.stderr = (open(number, "w", closefd=False) for number in (1, 2))  # noqa: SIM115
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(env)
    sys.argv = [module, *arguments]
    sys.modules.pop(module, None)  # as with -m, where it is not imported but run
    code = 0
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    Path(ended).write_text(str(code))
    os._exit(code)
