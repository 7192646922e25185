"""Starts a script once per rank on this machine, as a launcher would, and waits for all."""

from __future__ import annotations

import fcntl
import os
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import IO

_mine: list[IO[str]] = []


def free_port() -> int:
    """Returns a port that no other test of this machine gets, and no connection of any process.

    The system hands out none below 32768 by itself; of those each test process takes some by locks.
    """
    for port in range(11_000, 20_000):
        lock = (Path(tempfile.gettempdir()) / f"unlearn-test-port-{port}").open("a")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            with socket.socket() as probe:
                probe.bind(("127.0.0.1", port))
        except OSError:  # another test's, or somebody's service
            lock.close()
            continue
        _mine.append(lock)
        return port
    raise AssertionError("no port is free")


def run(world: int, *command: str) -> None:
    """Runs `python COMMAND` as every rank; none may fail."""
    meet = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": free_port(), "OMP_NUM_THREADS": 1}
    processes = []
    for rank in range(world):
        ranked = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": world, "LOCAL_WORLD_SIZE": world}
        env = {**os.environ, **{name: str(value) for name, value in (ranked | meet).items()}}
        processes.append(
            subprocess.Popen(
                [sys.executable, *command],
                env=env,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
        )
    said = [process.communicate(timeout=1800)[0] for process in processes]
    assert [p.returncode for p in processes] == [0] * world, "\n".join(said)[-4000:]
