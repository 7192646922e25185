"""Ranks that another launcher started: `accelerate launch`, torchrun.

Every rank composes the same command line; what the launcher's own configuration says is translated
into our settings, and a contradiction is refused.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

from unlearn_runner.errors import ConfigError
from unlearn_runner.explain import SWEEP, swept
from unlearn_runner.job import command
from unlearn_runner.parallel.base import Parallel
from unlearn_runner.parallel.fsdp2 import FSDP2
from unlearn_runner.parallel.single import Single
from unlearn_runner.progress import console


def world() -> int:
    """Returns of how many ranks this process is one that another launcher started; 0 if none."""
    return int(os.environ.get("WORLD_SIZE", "1")) if "RANK" in os.environ else 0


def main_rank() -> bool:
    """Returns whether this process speaks for all."""
    return os.environ.get("RANK", "0") == "0"


def adopted(arguments: Sequence[str]) -> list[str]:
    """Returns the command line with what the launcher chose.

    Raises:
        ConfigError: For a sweep, whose jobs need ranks of their own, and for contradictions.
    """
    count, chosen = world(), list(arguments)
    if set(chosen) & set(SWEEP) or swept(chosen):
        raise ConfigError(
            f"a sweep cannot run in {count} ranks that torchrun or accelerate started: each would "
            "run the sweep by itself",
            command([*chosen, "parallel=ddp", f"parallel.ranks={count}"])
            + "  (starts the ranks of each job itself)",
        )
    if _true("ACCELERATE_USE_DEEPSPEED"):
        raise ConfigError(
            "accelerate's configuration asks for DeepSpeed, which is not supported",
            "distributed_type: FSDP in that file, or no launcher and parallel=fsdp2",
        )
    named = [a.partition("=")[2] for a in chosen if a.partition("=")[0] == "parallel"]
    sharded = _true("ACCELERATE_USE_FSDP")
    if sharded and named and named[-1] != "fsdp2":
        raise ConfigError(
            f"parallel={named[-1]}, but accelerate's configuration says FSDP",
            "parallel=fsdp2, or another configuration file",
        )
    if not named:
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


def check(parallel: Parallel, precision: str) -> None:
    """Refuses settings that contradict the ranks there are.

    Raises:
        ConfigError: If so.
    """
    count = world()
    asked = (parallel.ranks or 0) * parallel.nodes
    if isinstance(parallel, Single):
        if count > 1:
            raise ConfigError(
                f"parallel=single, but this process is one of {count} ranks",
                "parallel=ddp or parallel=fsdp2, or start the command plainly",
            )
    elif asked and asked != count:
        raise ConfigError(
            f"parallel.ranks={parallel.ranks} parallel.nodes={parallel.nodes}, but the launcher "
            f"started {count} ranks",
            "leave both out: the launcher decides",
        )
    mixed = os.environ.get("ACCELERATE_MIXED_PRECISION", "no")
    if mixed not in ("no", precision) and main_rank():
        console.print(
            f"warning: accelerate's mixed_precision={mixed} is not used; "
            f"train.precision={precision} is",
            markup=False,
        )
    if isinstance(parallel, FSDP2) and os.environ.get("FSDP_VERSION", "2") == "1" and main_rank():
        console.print("note: accelerate's fsdp_version 1 runs as FSDP2", markup=False)


def _true(variable: str) -> bool:
    return os.environ.get(variable, "").lower() in ("true", "1", "yes")
