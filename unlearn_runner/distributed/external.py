"""Ranks that another launcher started: `accelerate launch`, torchrun.

Every rank composes the same command line; what the launcher's own configuration says is translated
into our settings, and a contradiction is refused.
"""

from __future__ import annotations

import os

from unlearn_runner.distributed.base import Parallel
from unlearn_runner.errors import ConfigError
from unlearn_runner.utils.console import console


def world() -> int:
    """Returns of how many ranks this process is one that another launcher started; 0 if none."""
    return int(os.environ.get("WORLD_SIZE", "1")) if "RANK" in os.environ else 0


def main_rank() -> bool:
    """Returns whether this process speaks for all."""
    return os.environ.get("RANK", "0") == "0"


def check(parallel: Parallel, precision: str) -> None:
    """Refuses settings that contradict the ranks there are.

    Raises:
        ConfigError: If so.
    """
    count = world()
    asked = (parallel.ranks or 0) * parallel.nodes
    if not parallel.starts_ranks:
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
    if parallel.shards and os.environ.get("FSDP_VERSION", "2") == "1" and main_rank():
        console.print("note: accelerate's fsdp_version 1 runs as FSDP2", markup=False)


def _true(variable: str) -> bool:
    return os.environ.get(variable, "").lower() in ("true", "1", "yes")
