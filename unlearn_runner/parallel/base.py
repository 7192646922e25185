"""How a run uses the machine: one process today, with its threads fixed and recorded.

Never part of a key: the numbers of a run do not depend on it beyond rounding.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Ge


@dataclass(frozen=True)
class Parallel:
    """Processes and threads of one run."""

    engine: Literal["single"] = "single"
    threads: Annotated[int, Ge(1)] | None = None
    """CPU threads of the process; null takes every core this process may use. Bit-for-bit
    repetition on a CPU needs equal thread counts, so the number is recorded with the results."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    attention: Literal["sdpa", "eager", "flash_attention_2"] = "sdpa"
    """Attention kernel; flash_attention_2 needs its package and precision=bf16. The kernels agree
    up to rounding."""
