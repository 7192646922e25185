"""Launcher: starts the ranks of a run as children of this process, and watches them.

One mechanism for a laptop, a workstation and each node of a cluster: this process composed the
configuration; its children get it through their standard input, connect to one address, and run the
stages together. When this process dies that input ends, and they end with it.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from random import SystemRandom
from types import FrameType
from typing import IO, Any

from unlearn_runner.distributed.base import Parallel
from unlearn_runner.distributed.external import whole_number
from unlearn_runner.distributed.gpus import visible
from unlearn_runner.errors import SIGNALLED, ConfigError
from unlearn_runner.utils.process import start_child
from unlearn_runner.utils.signals import SIGNALS, Handler, Interrupted, check, handle_signals, name

GRACE_S = 10.0
"""How long the other ranks may take to end by themselves once one has."""
LAST_LINES = 12
PORTS = (20_000, 32_768)
"""Linux gives the ports above to connections."""


def ranks_here(parallel: Parallel) -> int:
    """Returns the number of ranks on this machine: as set, or one per visible GPU, at least one."""
    return parallel.ranks or max(1, len(visible(parallel.device)))


@dataclass(frozen=True)
class Launch:
    """Task of the ranks of a run, and what its launcher needs to report a failure."""

    module: str
    """Run by each rank with `python -m`."""
    task: str
    """One line that each rank reads from its standard input."""
    resume: str
    """Command that continues the run, for people."""
    on_failure: Callable[[str, str], None]
    """Called on node 0 with the cause of a failure that rank 0 could not report, and with what the
    rank that failed has printed."""


def start(launch: Launch, parallel: Parallel) -> int:
    """Runs a job on this machine's ranks; returns the exit code.

    Raises:
        ConfigError: If the number of this node, or the address of rank 0, is not known.
        Interrupted: If a signal ended it.
    """
    node = _node_rank(parallel)
    address = _main_address(parallel, node)
    with _children(launch, parallel, node, address) as children, handle_signals(_forward(children)):
        check()  # a signal may have come before there were children to forward it to
        failed = _watch(children)
        code = 0 if failed is None else _report(launch, failed, children[0], node)
    if code - SIGNALLED in SIGNALS:
        raise Interrupted(code - SIGNALLED)
    return code


@dataclass
class Child:
    """Process of one rank."""

    rank: int
    process: subprocess.Popen[str]
    output: IO[str] | None
    """Output of a rank other than 0; shown only if it is the one that fails."""

    def printed(self) -> str:
        """Returns what it has printed; nothing for rank 0, whose output is the launcher's."""
        if self.output is None:
            return ""
        self.output.seek(0)
        return self.output.read().strip()

    def close(self) -> None:
        """Closes its input and output."""
        for stream in (self.process.stdin, self.output):
            if stream is not None:
                with suppress(BrokenPipeError):
                    stream.close()


@contextmanager
def _children(
    launch: Launch, parallel: Parallel, node: int, address: tuple[str, int]
) -> Iterator[list[Child]]:
    here = ranks_here(parallel)
    children: list[Child] = []
    try:
        for local in range(here):
            rank = node * here + local
            output: Any = None
            if rank:
                output = tempfile.TemporaryFile("w+", encoding="utf-8")  # noqa: SIM115
            process = start_child(
                launch.module,
                launch.task,
                stdout=output,
                stderr=output,
                env=_environment(rank, local, here, address, parallel),
                start_new_session=True,  # Ctrl-C reaches this process alone, which forwards it
            )
            children.append(Child(rank, process, output))
        yield children
    finally:
        _end(children, 0.0)
        for child in children:
            child.close()


def _environment(
    rank: int, local: int, here: int, address: tuple[str, int], parallel: Parallel
) -> dict[str, str]:
    threads = parallel.threads or max(1, len(os.sched_getaffinity(0)) // here)
    return {
        **os.environ,
        "RANK": str(rank),
        "LOCAL_RANK": str(local),
        "WORLD_SIZE": str(here * parallel.nodes),
        "LOCAL_WORLD_SIZE": str(here),
        "MASTER_ADDR": address[0],
        "MASTER_PORT": str(address[1]),
        # Before torch is loaded, which sizes its thread pools once.
        "OMP_NUM_THREADS": str(threads),
    }


def _node_rank(parallel: Parallel) -> int:
    if parallel.nodes == 1:
        return 0
    node = parallel.node_rank
    if node is None:
        node = whole_number("SLURM_NODEID", parallel.nodes)
    if node is None:
        raise ConfigError(
            f"parallel.nodes={parallel.nodes}: which of them is this one?",
            f"parallel.node_rank=0 on one, up to {parallel.nodes - 1} on the last "
            "(SLURM says it by itself)",
        )
    return node


def _main_address(parallel: Parallel, node: int) -> tuple[str, int]:
    """Returns host and port of rank 0: a free port here, or what all nodes know."""
    if parallel.master is not None:
        host, _, port = parallel.master.rpartition(":")
        return host, int(port)
    if parallel.nodes == 1:
        return "127.0.0.1", _free_port()
    host, job = os.environ.get("SLURM_LAUNCH_NODE_IPADDR"), whole_number("SLURM_JOB_ID")
    if host is None or job is None:
        raise ConfigError(
            f"parallel.nodes={parallel.nodes}: the nodes do not know where to meet",
            "parallel.master=HOST:29500, the same on every node (SLURM says it by itself)",
        )
    return host, 20_000 + job % 20_000


def _free_port() -> int:
    """Returns a port that is likely to be free still when rank 0 has loaded torch and listens.

    Not one that the system would choose: it gives those to any connection that is opened meanwhile.
    """
    draw = SystemRandom()
    for port in (*(draw.randrange(*PORTS) for _ in range(100)), 0):
        with suppress(OSError), socket.socket() as probe:
            probe.bind(("127.0.0.1", port))
            return probe.getsockname()[1]
    raise ConfigError("no port of this machine is free", "parallel.master=HOST:PORT")


def _forward(children: list[Child]) -> Handler:
    """Returns what forwards signals to the ranks, who agree on a step to stop after."""

    def forward(number: int, _: FrameType | None) -> None:
        for child in children:
            child.process.send_signal(number)

    return forward


def _watch(children: list[Child]) -> Child | None:
    """Waits until all ranks have ended; returns the one whose failure is the cause, if any."""
    cause: Child | None = None
    while any(child.process.poll() is None for child in children):
        failed = [c for c in children if c.process.poll() not in (None, 0)]
        if failed and cause is None:
            # A killed rank takes the others down, and may itself be gone a moment after them: of
            # those that ended before we end any, it is the cause.
            _wait(children, GRACE_S)
            failed = [c for c in children if c.process.poll() not in (None, 0)]
            cause = min(failed, key=lambda child: child.process.returncode)
            _end(children, GRACE_S)
        time.sleep(0.05)
    # All may be gone before any was seen to be.
    failed = [child for child in children if child.process.returncode]
    return cause or min(failed, key=lambda child: child.process.returncode, default=None)


def _wait(children: list[Child], seconds: float) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until and any(c.process.poll() is None for c in children):
        time.sleep(0.05)


def _end(children: list[Child], grace: float) -> None:
    """Ends all ranks: by SIGTERM, and by SIGKILL those that are there after `grace` seconds."""
    for how, seconds in ((signal.SIGTERM, grace), (signal.SIGKILL, 5.0)):
        for child in children:
            child.process.send_signal(how)
        _wait(children, seconds)


def _report(launch: Launch, failed: Child, main: Child, node: int) -> int:
    """Reports what ended the run, if rank 0 could not; returns the exit code."""
    code = failed.process.returncode
    # A mistake or a signal that all ranks met: rank 0 has reported it.
    if code > 0 and main.process.returncode == code:
        return code
    cause = f"rank {failed.rank} ended with exit code {code}"
    if code < 0:
        cause = f"rank {failed.rank} was killed by {name(-code)}"
    printed = failed.printed()
    if summary := summarized(printed):
        print(summary, file=sys.stderr)
    if node == 0:
        launch.on_failure(cause, printed)
    print(f"{cause}; the other ranks were ended", file=sys.stderr)
    print(f"to continue: {launch.resume}", file=sys.stderr)
    return code if code > 0 else 1


def summarized(printed: str) -> str:
    """Returns the last lines of what a rank printed; of a traceback only the error."""
    lines = printed.splitlines()
    if any(line.startswith("Traceback (most recent call last)") for line in lines):
        last_frame = max((i for i, x in enumerate(lines) if x.startswith("  ")), default=-1)
        return "".join(lines[last_frame + 1 :][:1])
    return "\n".join(lines[-LAST_LINES:])
