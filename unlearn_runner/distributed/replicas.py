"""Replicas: a whole model in every process, each with its share of the rows."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from unlearn_runner.distributed.layout import Layout

BUCKET = 8 << 20  # numbers sent at once: one message per small tensor would be slow


class Replicas(Layout):
    """Layout of whole models on every rank; gradients are summed over ranks after each pass.

    No wrapper module: the models start equal, see gradients with equal bits and so stay equal.
    """

    def place(self, model: Any, precision: str) -> Any:
        """Moves the model to this rank's device, with rank 0's weights."""
        model = model.to(self.device)
        if self.ranks.world > 1:
            with torch.no_grad():
                for tensor in (*model.parameters(), *model.buffers()):
                    dist.broadcast(tensor.data, src=0)
        return model

    def reduce(self, gradient: list[Tensor | None]) -> None:
        """All-reduces a pass's gradient in a few large messages, in place."""
        if self.ranks.world == 1:
            return
        requests = []
        for bucket in _buckets([entry for entry in gradient if entry is not None]):
            in_place = len(bucket) == 1 and bucket[0].is_contiguous()
            flat = bucket[0].view(-1) if in_place else torch.cat([x.reshape(-1) for x in bucket])
            requests.append((bucket, flat, in_place, dist.all_reduce(flat, async_op=True)))
        for bucket, flat, in_place, request in requests:
            assert request is not None
            request.wait()
            if not in_place:
                sums = flat.split([x.numel() for x in bucket])
                for entry, summed in zip(bucket, sums, strict=True):
                    entry.copy_(summed.view_as(entry))

    def flat_shard(self, local: Tensor) -> Tensor:
        """Returns an equal share of a tensor that all ranks have, to be summed by this one."""
        flat, rank, world = local.reshape(-1), self.ranks.rank, self.ranks.world
        return flat[len(flat) * rank // world : len(flat) * (rank + 1) // world]


def _buckets(entries: list[Tensor]) -> Iterator[list[Tensor]]:
    bucket: list[Tensor] = []
    for entry in entries:
        if bucket and sum(x.numel() for x in bucket) + entry.numel() > BUCKET:
            yield bucket
            bucket = []
        bucket.append(entry)
    if bucket:
        yield bucket
