"""Starts the ranks of a run as children of this plain process, and watches them.

One mechanism for a laptop, a workstation and each node of a cluster: this process composed the
configuration; its children get it through their standard input, meet at an address, and run the
stages together. When this process dies that input ends, and they with it.
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
from typing import IO, cast

from unlearn_runner.distributed.base import Parallel
from unlearn_runner.distributed.gpus import visible
from unlearn_runner.errors import SIGNALLED, ConfigError
from unlearn_runner.utils.process import feed, start_child
from unlearn_runner.utils.signals import SIGNALS, Interrupted, check

GRACE_S = 10.0
"""How long the other ranks may take to leave by themselves once one has."""
LAST_LINES = 12
PORTS = (20_000, 32_768)
"""Linux gives the ports above to connections."""


def ranks_here(parallel: Parallel) -> int:
    """Returns the number of ranks on this machine: as set, or one per visible GPU, at least one."""
    return parallel.ranks or max(1, len(visible(parallel.device)))


@dataclass(frozen=True)
class Launch:
    """What the ranks of a run are started for."""

    module: str
    """Run by each rank with `python -m`."""
    text: str
    """One line that each rank reads from its standard input."""
    resume: str
    """The command that continues the run, for people."""
    on_failure: Callable[[str], None]
    """Told, on node 0, the cause of a failure that rank 0 could not say."""


def start(launch: Launch, parallel: Parallel) -> int:
    """Runs a job on this machine's ranks; returns the exit code.

    Raises:
        ConfigError: If it cannot be told which node this is, or where the nodes meet.
        Interrupted: If a signal ended it.
    """
    here = ranks_here(parallel)
    number = _node_rank(parallel)
    host, port = _meeting_point(parallel, number)
    with (
        _children(launch.module, parallel, here, number, (host, port)) as children,
        _handed_on(children),
    ):
        check()  # a sweep may have been asked to end before these were there to be told
        for child in children:
            feed(child.process, launch.text)
        first = _watch(children)
    if first is None:
        return 0
    code = _explain(launch, first, children[0], number)
    if code - SIGNALLED in SIGNALS:
        raise Interrupted(code - SIGNALLED)
    return code


@dataclass
class Child:
    """One rank's process."""

    rank: int
    process: subprocess.Popen[str]
    said: IO[str] | None
    """What a rank other than 0 prints; shown only if it is the one that fails."""

    def last_words(self) -> str:
        """Returns the end of what it printed."""
        if self.said is None:
            return ""
        self.said.seek(0)
        return "".join(self.said.readlines()[-LAST_LINES:])


@contextmanager
def _children(
    module: str, parallel: Parallel, here: int, node: int, meet: tuple[str, int]
) -> Iterator[list[Child]]:
    world = here * parallel.nodes
    children: list[Child] = []
    try:
        for local in range(here):
            rank = node * here + local
            said = None if rank == 0 else _aside()
            process = start_child(
                [sys.executable, "-m", module],
                stdout=said,
                stderr=said,
                env=_environment(rank, local, here, world, meet, parallel),
                start_new_session=True,  # Ctrl-C reaches us alone, and we hand it on
            )
            children.append(Child(rank, process, said))
        yield children
    finally:
        _end(children, 0.0)


def _aside() -> IO[str]:
    return cast(IO[str], tempfile.TemporaryFile("w+", encoding="utf-8"))


def _environment(
    rank: int, local: int, here: int, world: int, meet: tuple[str, int], parallel: Parallel
) -> dict[str, str]:
    threads = parallel.threads or max(1, len(os.sched_getaffinity(0)) // here)
    return {
        **os.environ,
        "RANK": str(rank),
        "LOCAL_RANK": str(local),
        "WORLD_SIZE": str(world),
        "LOCAL_WORLD_SIZE": str(here),
        "MASTER_ADDR": meet[0],
        "MASTER_PORT": str(meet[1]),
        # Before torch is loaded: its thread pools are as large as they are first asked to be.
        "OMP_NUM_THREADS": str(threads),
    }


def _node_rank(parallel: Parallel) -> int:
    if parallel.nodes == 1:
        return 0
    asked = parallel.node_rank
    number = asked if asked is not None else os.environ.get("SLURM_NODEID")
    if number is None:
        raise ConfigError(
            f"parallel.nodes={parallel.nodes}: which of them is this one?",
            f"parallel.node_rank=0 on one, up to {parallel.nodes - 1} on the last "
            "(SLURM says it by itself)",
        )
    return int(number)


def _meeting_point(parallel: Parallel, node: int) -> tuple[str, int]:
    """Returns host and port of rank 0: a free port here, or what all nodes know."""
    if parallel.master is not None:
        host, _, port = parallel.master.rpartition(":")
        return host, int(port)
    if parallel.nodes == 1:
        return "127.0.0.1", _free_port()
    host, number = os.environ.get("SLURM_LAUNCH_NODE_IPADDR"), os.environ.get("SLURM_JOB_ID")
    if host is None or number is None:
        raise ConfigError(
            f"parallel.nodes={parallel.nodes}: the nodes do not know where to meet",
            "parallel.master=HOST:29500, the same on every node (SLURM says it by itself)",
        )
    return host, 20_000 + int(number) % 20_000


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


@contextmanager
def _handed_on(children: list[Child]) -> Iterator[None]:
    """Hands signals to the ranks, who agree on a step to leave after."""

    def hand_on(number: int, _: FrameType | None) -> None:
        for child in children:
            if child.process.poll() is None:
                child.process.send_signal(number)

    before = {number: signal.signal(number, hand_on) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _watch(children: list[Child]) -> Child | None:
    """Waits for the ranks; returns the first that failed, once none is left."""
    first: Child | None = None
    while any(child.process.poll() is None for child in children):
        ended = [c for c in children if c.process.poll() not in (None, 0)]
        if ended and first is None:
            # A killed rank takes the others down, and may itself be gone a moment after them: of
            # those that ended before we end any, it is the cause.
            _wait(children, GRACE_S)
            ended = [c for c in children if c.process.poll() not in (None, 0)]
            first = min(ended, key=lambda child: child.process.returncode)
            _end(children, GRACE_S)
        time.sleep(0.05)
    failed = [child for child in children if child.process.returncode]
    return first or (failed[0] if failed else None)


def _wait(children: list[Child], seconds: float) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until and any(c.process.poll() is None for c in children):
        time.sleep(0.05)


def _end(children: list[Child], grace: float) -> None:
    """Ends all ranks: by SIGTERM, and those that are there after `grace` seconds by force."""
    for how, seconds in ((signal.SIGTERM, grace), (signal.SIGKILL, 5.0)):
        for child in children:
            if child.process.poll() is None:
                child.process.send_signal(how)
        _wait(children, seconds)


def _explain(launch: Launch, first: Child, main: Child, node: int) -> int:
    """Says what ended the run where rank 0 could not; returns the exit code."""
    code = first.process.returncode
    if first is main and code > 0:
        return code
    others = code > 0 and main.process.returncode == code
    if others:  # a mistake or a signal that all ranks met: rank 0 has said it
        return code
    cause = f"rank {first.rank} ended with exit code {code}"
    if code < 0:
        cause = f"rank {first.rank} was killed by {signal.Signals(-code).name}"
    words = first.last_words().strip()
    if words:
        print(words, file=sys.stderr)
    if node == 0:
        launch.on_failure(cause)
    print(f"{cause}; the other ranks were ended", file=sys.stderr)
    print(f"to continue: {launch.resume}", file=sys.stderr)
    return code if code > 0 else 1
