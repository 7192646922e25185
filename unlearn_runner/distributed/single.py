"""One process on one device."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar

from annotated_types import Ge, Le

from unlearn_runner.distributed.base import Parallel
from unlearn_runner.errors import ConfigError

if TYPE_CHECKING:
    import torch

    from unlearn_runner.distributed.layout import Layout
    from unlearn_runner.distributed.ranks import Ranks


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

    def layout(self, ranks: Ranks, device: torch.device) -> Layout:
        """Returns the layout of one process."""
        from unlearn_runner.distributed.layout import Layout

        return Layout(ranks, device)
