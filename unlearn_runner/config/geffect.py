"""What is measured of the models that a run keeps on its way: the G-effect."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Ge, Le

from unlearn_runner.errors import ConfigError
from unlearn_runner.methods.base import Method

Block = Annotated[int, Ge(0), Le(1024)]
NumRows = Annotated[int, Ge(1), Le(10**9)]


@dataclass(frozen=True)
class GEffect:
    """Inner products of the gradients of an objective and of two risks, at every kept model."""

    mode: Literal["none", "exact", "ema"] = "none"
    """Nothing; gradients over all forget rows, or over a fixed sample; or, as the published code
    has it, gradients of batches of 4 rows, smoothed 0.6 old + 0.4 new."""
    risk: Literal["nll", "kl"] = "nll"
    """Of forget and of retain answers: negative log-likelihood, or KL to the start model."""
    method: Method | None = None
    """Whose objective is asked about; null is the run's own."""
    forget_rows: NumRows | None = None
    """Of `exact`: size of a fixed sample of the forget rows; null takes all."""
    retain_rows: NumRows | None = None
    """Of `exact`: size of a fixed sample of the retain rows; null takes as many as forget rows."""
    boundaries: tuple[Block, Block] | None = None
    """First block of the layer group `middle`, and of `deep`; null is thirds of the depth."""
    per_sample: bool = False
    """Also the PG-effect of each forget row, at the cost of a pass per row."""

    def __post_init__(self) -> None:
        if self.boundaries is not None and self.boundaries[0] > self.boundaries[1]:
            middle, deep = self.boundaries
            raise ConfigError(
                f"geffect.boundaries=[{middle},{deep}]: `deep` begins before `middle`; allowed: "
                "[first block of middle,first block of deep]",
                f"geffect.boundaries=[{deep},{middle}]",
            )
        if self.mode == "ema":
            for name in ("forget_rows", "retain_rows"):
                if getattr(self, name) is not None:
                    raise ConfigError(
                        f"geffect.{name} is of geffect.mode=exact; ema goes once through all rows",
                        f"geffect.{name}=null",
                    )
        if self.method is not None and self.method.one_shot:
            raise ConfigError(
                f"geffect.method: {type(self.method).__name__} minimises nothing, so there is no "
                "gradient to measure with",
                "geffect.method=null",
            )
