"""Commands that accelerate or torchrun started, with what those launchers chose."""

from __future__ import annotations

import os
from collections.abc import Sequence

from unlearn_runner.config.command_line import SWEEP, chooses_sweep
from unlearn_runner.distributed.external import is_true, world
from unlearn_runner.errors import ConfigError
from unlearn_runner.utils.process import command


def adopt(arguments: Sequence[str]) -> list[str]:
    """Returns the command line with what the launcher chose.

    Raises:
        ConfigError: For a sweep, whose jobs need ranks of their own, and for contradictions.
    """
    count, chosen = world(), list(arguments)
    if set(chosen) & set(SWEEP) or chooses_sweep(chosen):
        raise ConfigError(
            f"a sweep cannot run in {count} ranks that torchrun or accelerate started: each would "
            "run the sweep by itself; this starts the ranks of each job itself:",
            command([*chosen, "parallel=ddp", f"parallel.ranks={count}"]),
        )
    if is_true("ACCELERATE_USE_DEEPSPEED"):
        raise ConfigError(
            "accelerate's configuration asks for DeepSpeed, which is not supported",
            "distributed_type: FSDP in that file, or no launcher and parallel=fsdp2",
        )
    engines = [a.partition("=")[2] for a in chosen if a.partition("=")[0] == "parallel"]
    sharded = is_true("ACCELERATE_USE_FSDP")
    if sharded and engines and engines[-1] != "fsdp2":
        raise ConfigError(
            f"parallel={engines[-1]}, but accelerate's configuration says FSDP",
            "parallel=fsdp2, or another configuration file",
        )
    if not engines:
        chosen.append("parallel=fsdp2" if sharded else "parallel=ddp")
    if sharded:
        chosen += _translated(chosen)
    return chosen


def _translated(arguments: Sequence[str]) -> list[str]:
    """Returns the settings of accelerate's FSDP configuration, where the command has none."""
    pairs = {"FSDP_OFFLOAD_PARAMS": "offload", "FSDP_RESHARD_AFTER_FORWARD": "reshard"}
    found = []
    for variable, setting in pairs.items():
        value = os.environ.get(variable, "").lower()
        given = any(a.startswith(f"parallel.{setting}=") for a in arguments)
        if value in ("true", "false") and not given:
            found.append(f"parallel.{setting}={value}")
    return found
