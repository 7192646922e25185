"""How long a person waits for help, a mistake and a plan: processor seconds, the best of three.

python benchmarks/startup.py
"""

from __future__ import annotations

import os
import subprocess
import sys
from tempfile import TemporaryDirectory

COMMANDS = ("--version", "--help", "methd=ga", "train.lrr=1", "debug=tiny plan_only=true")


def seconds(words: list[str], folder: str) -> float:
    """Returns the processor seconds of a command."""
    before = os.times()
    command = [sys.executable, "-m", "unlearn_runner", *words]
    subprocess.run(command, cwd=folder, capture_output=True)
    after = os.times()
    used = after.children_user - before.children_user
    return used + after.children_system - before.children_system


with TemporaryDirectory() as aside:
    for command in COMMANDS:
        best = min(seconds(command.split(), aside) for _ in range(3))
        print(f"{best:5.2f} s  unlearn {command}")
