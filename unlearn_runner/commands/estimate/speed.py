"""How long a training step takes, roughly: arithmetic, and what travels between ranks."""

from __future__ import annotations

from dataclasses import dataclass

from unlearn_runner.commands.estimate.memory import Setting
from unlearn_runner.commands.estimate.sizes import Sizes

REACHED = 0.4
"""Share of a device's peak arithmetic that training of such models reaches."""


@dataclass(frozen=True)
class Device:
    """An accelerator, by its data sheet."""

    memory: float
    """Bytes."""
    bf16: float
    """Multiplications and additions per second in bf16, dense."""
    float32: float
    """In float32 without TF32."""
    link: float
    """Bytes per second to the other devices of a node, one way."""


DEVICES = {
    "A100-40GB": Device(40e9, 312e12, 19.5e12, 300e9),
    "A100-80GB": Device(80e9, 312e12, 19.5e12, 300e9),
    "H100-80GB": Device(80e9, 989e12, 67e12, 450e9),
    "H200-141GB": Device(141e9, 989e12, 67e12, 450e9),
}


def step(
    sizes: Sizes, setting: Setting, device: Device, tokens: int, length: int, micro: int, world: int
) -> tuple[float, float]:
    """Returns a step's seconds of arithmetic, and of sending, as if none were hidden behind it.

    Args:
        sizes: Of the model.
        setting: Of the training.
        device: Of each rank.
        tokens: That all terms of a step compute with, over all ranks.
        length: Of a row.
        micro: Forward and backward passes of each rank.
        world: Number of ranks.
    """
    matrices = sizes.parameters - (0 if sizes.tied else sizes.vocab * sizes.hidden)
    whole_backward = setting.frozen == 0
    factor = (6 if whole_backward else 4) + (2 if setting.checkpointing else 0)
    attention = 2 * factor * sizes.layers * sizes.heads * sizes.head * length
    flops = tokens * (factor * matrices + attention)
    peak = device.bf16 if setting.precision == "bf16" else device.float32
    sent = bytes_sent(setting, micro, world)
    return flops / (peak * REACHED * world), sent / device.link


def bytes_sent(setting: Setting, micro: int, world: int) -> float:
    """Returns the bytes that each rank sends in a step.

    Replicas all-reduce each group's gradient once: twice its bytes, less a world's share. Shards
    gather the weights for each forward and each backward pass, and scatter each pass's gradient.
    """
    if world == 1:
        return 0.0
    others = (world - 1) / world
    gradient = setting.trained * setting.stored * others
    if not setting.gathers:
        return 2 * gradient * setting.groups
    gathered = (setting.trained + setting.frozen) * setting.computed * others
    return micro * (2 * gathered + gradient)
