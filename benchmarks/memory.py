"""Bytes of tensors, counted by the allocator: not the process's size, which never shrinks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor
from torch.profiler import ProfilerActivity, profile

from unlearn_runner.training.engine import Engine


def state_bytes(engine: Engine) -> int:
    """Returns what an engine holds between steps: weights, moments, a rectifier's memory."""
    engine.space.clear()
    storages = {
        t.untyped_storage().data_ptr(): t.untyped_storage().nbytes()
        for t in _tensors(
            [
                list(engine.models.trained.parameters()),
                list(engine.optimizer.state.values()),
                engine.rectifier_state,
            ]
        )
    }
    return sum(storages.values())


def _tensors(content: Any) -> Iterator[Tensor]:
    if isinstance(content, Tensor):
        yield content.to_local() if isinstance(content, DTensor) else content
    elif isinstance(content, dict):
        for value in content.values():
            yield from _tensors(value)
    elif isinstance(content, (list, tuple)):
        for value in content:
            yield from _tensors(value)


def peak_bytes(work: Callable[[], object]) -> int:
    """Returns the most bytes that were allocated at once while `work` ran, beyond those before."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as found:
        work()
    events: Any = found.profiler.kineto_results.events()  # pyright: ignore
    moves = sorted((e.start_ns(), e.nbytes()) for e in events if e.name() == "[memory]")
    assert moves, "the profiler saw no allocation"
    held = most = 0
    for _, count in moves:
        held += count
        most = max(most, held)
    return most


if __name__ == "__main__":  # does it count what is known?
    print(peak_bytes(lambda: torch.zeros(1000) + torch.zeros(1000)), "of 12000")
