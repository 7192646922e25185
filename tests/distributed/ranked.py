"""Starts a script once per rank on this machine, as a launcher would, and waits for all."""

from __future__ import annotations

import os
import socket
import subprocess
import sys


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


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
    said = [process.communicate(timeout=300)[0] for process in processes]
    assert [p.returncode for p in processes] == [0] * world, "\n".join(said)[-4000:]
