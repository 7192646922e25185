"""QLoRA: LoRA beside frozen weights of four bits."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from typing import ClassVar

from unlearn_runner.errors import ConfigError
from unlearn_runner.models.adapters.base import Storage
from unlearn_runner.models.adapters.lora import LoRA


@dataclass(frozen=True)
class QLoRA(LoRA):
    """LoRA on weights in 4-bit NormalFloat with quantised scales, by bitsandbytes.

    Source: Dettmers et al. 2023. The linear maps are quantised as they are loaded; embeddings,
    norms and the projection to the vocabulary are not. As under a bf16 base, training and the start
    model see the rounded weights, evaluation and merging those on the disk.
    """

    shardable: ClassVar[bool] = False

    @property
    def storage(self) -> Storage:
        """Four bits, of the linear maps."""
        return "nf4"

    def check(self, precision: str, save_dtype: str) -> None:
        """Refuses what 4-bit weights have no arithmetic for, and a machine without bitsandbytes."""
        if find_spec("bitsandbytes") is None:
            raise ConfigError(
                "adapter=qlora needs bitsandbytes, which is not installed",
                "pip install 'unlearn-runner[qlora]', or adapter=lora adapter.base_dtype=bf16",
            )
        if self.base_dtype != "float32":
            raise ConfigError(
                f"adapter.base_dtype={self.base_dtype}: the base of adapter=qlora has four bits",
                "adapter.base_dtype=float32",
            )
        if precision == "float64":
            raise ConfigError(
                "adapter=qlora does not go with train.precision=float64: 4-bit weights are "
                "multiplied in bf16 or float32",
                "train.precision=bf16",
            )
        super().check(precision, save_dtype)
