"""External launchers: ranks that `accelerate launch` or torchrun started.

Every rank composes the same command line; settings that contradict the launcher's are refused.
"""

from __future__ import annotations

import os

from unlearn_runner.distributed.base import Parallel
from unlearn_runner.errors import ConfigError
from unlearn_runner.utils.console import console


def world() -> int:
    """Returns the number of ranks that another launcher started, this one included; 0 if none.

    Raises:
        ConfigError: If its variables are no such numbers.
    """
    size = whole_number("WORLD_SIZE", low=1) or 1
    local = whole_number("LOCAL_WORLD_SIZE", low=1) or size
    whole_number("LOCAL_RANK", local)
    return 0 if whole_number("RANK", size) is None else size


def main_rank() -> bool:
    """Returns whether this process is rank 0, or has no rank, or none that can be."""
    try:
        return not whole_number("RANK", whole_number("WORLD_SIZE"))
    except ConfigError:
        return True


def whole_number(variable: str, below: int | None = None, low: int = 0) -> int | None:
    """Returns the whole number in an environment variable; none if it is not set.

    Raises:
        ConfigError: If it is none, or not from `low` to less than `below`.
    """
    text = os.environ.get(variable)
    if text is None:
        return None
    if text.isdecimal() and len(text) < 19:
        number = int(text)
        if low <= number and (below is None or number < below):
            return number
    allowed = f"{low} or more" if below is None else f"{low} to {below - 1}"
    raise ConfigError(
        f"the environment variable {variable}={text[:40]} is not allowed; allowed: whole numbers, "
        f"{allowed}",
        "parallel.node_rank=0 parallel.master=HOST:29500, for example, in SLURM's place"
        if variable.startswith("SLURM")
        else f"unset {variable}",
    )


def check(parallel: Parallel, precision: str) -> None:
    """Checks settings against the ranks that the launcher started.

    Raises:
        ConfigError: If they contradict each other.
    """
    count = world()
    configured = (parallel.ranks or 0) * parallel.nodes
    if not parallel.starts_ranks:
        if count > 1:
            raise ConfigError(
                f"parallel=single, but this process is one of {count} ranks",
                "parallel=ddp or parallel=fsdp2, or start the command plainly",
            )
    elif configured and configured != count:
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


def is_true(variable: str) -> bool:
    """Returns whether an environment variable says yes."""
    return os.environ.get(variable, "").lower() in ("true", "1", "yes")
