"""One process on one device."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

from annotated_types import Ge, Le

from unlearn_runner.distributed.base import Parallel
from unlearn_runner.errors import ConfigError


@dataclass(frozen=True)
class Single(Parallel):
    """One process, which debuggers like."""

    starts_ranks: ClassVar[bool] = False

    ranks: Annotated[int, Ge(1), Le(256)] | None = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        if (self.ranks or 1) * self.nodes > 1:
            raise ConfigError(
                f"parallel.ranks={self.ranks} parallel.nodes={self.nodes}: parallel=single is one "
                "process",
                "parallel=ddp (a whole model in each process) or parallel=fsdp2 (one in shards)",
            )
