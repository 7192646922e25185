"""Shards: every rank has a shard of each tensor, by torch's `fully_shard` (FSDP2).

Tensors are cut along their first dimension into equally long shards, one per rank, the last ones
shorter or empty. Parameters, gradients, the optimizer's moments and a rectifier's state are shards.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import (
    CPUOffloadPolicy,
    FSDPModule,
    MixedPrecisionPolicy,
    OffloadPolicy,
    fully_shard,
)
from torch.distributed.tensor import DTensor

from unlearn_runner.distributed.layout import SHARD, Layout, whole


@dataclass(frozen=True)
class Shards(Layout):
    """Layout of shards; FSDP2 gathers weights and scatters gradients layer by layer."""

    reshard: bool = True
    reduce_when: str = "each"
    offload: bool = False

    @property
    def loading(self) -> torch.device:
        """Host memory: a whole model may not fit on the device."""
        return torch.device("cpu")

    def place(self, model: Any, precision: str) -> Any:
        """Shards the model: each decoder layer is gathered by itself, the rest as one."""
        mesh = init_device_mesh(self.device.type, (self.ranks.world,))
        policy = MixedPrecisionPolicy()
        if precision == "bf16":
            policy = MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32)
        offload = OffloadPolicy()
        if self.offload:
            # Pinned memory is for copies to a device; without one torch refuses to pin.
            offload = CPUOffloadPolicy(pin_memory=self.device.type == "cuda")
        for part in (*_layers(model), model):
            fully_shard(
                part,
                mesh=mesh,
                mp_policy=policy,
                offload_policy=offload,
                reshard_after_forward=self.reshard,
            )
        for module in model.modules():
            if isinstance(module, FSDPModule):
                # Our losses are parts of one sum over the whole batch; the default would average.
                module.set_gradient_divide_factor(1.0)
                module.set_force_sum_reduction_for_comms(True)
        for buffer in model.buffers():
            buffer.data = buffer.data.to(self.device)
        return model

    def autocast(self, precision: str) -> AbstractContextManager[object]:
        """Returns a null context: the mixed-precision policy takes autocast's place."""
        return nullcontext()

    def before_backward(self, model: Any, last: bool) -> None:
        """Sets whether gradients are reduced after this pass."""
        model.set_requires_gradient_sync(self.reduce_when == "each" or last)

    def release(self, model: Any) -> None:
        """Reshards every layer."""
        for module in model.modules():
            if isinstance(module, FSDPModule):
                module.reshard()

    def reduce(self, gradient: list[Tensor | None]) -> None:
        """Does nothing: the backward pass has summed it."""

    def flat_shard(self, local: Tensor) -> Tensor:
        """Returns the local shard; [numbers]."""
        return local.reshape(-1)

    def alone(self) -> Layout:
        """Returns this layout: no rank can compute without the others."""
        return self

    def gathered(self, local: Tensor, parameter: nn.Parameter) -> Tensor:
        """Returns the shards of all ranks as one tensor."""
        found = self.from_local(local, parameter)
        return found.full_tensor() if isinstance(found, DTensor) else found

    def to_local(self, gradient: Tensor) -> Tensor:
        """Returns the local shard."""
        return gradient.to_local() if isinstance(gradient, DTensor) else gradient

    def from_local(self, local: Tensor, parameter: nn.Parameter) -> Tensor:
        """Returns the shard as a DTensor like the parameter."""
        if not isinstance(parameter, DTensor):
            return local
        return DTensor.from_local(
            local,
            parameter.device_mesh,
            parameter.placements,
            run_check=False,
            shape=parameter.shape,
            stride=parameter.stride(),
        )

    def to_checkpoint(self, tensor: Any) -> Any:
        """Returns a tensor's local shard, marked as one; what is not in shards stays as it is."""
        return {SHARD: tensor.to_local()} if isinstance(tensor, DTensor) else tensor

    def from_checkpoint(self, stored: Any, parameter: Tensor) -> Tensor:
        """Returns this rank's shard of a whole tensor, or of one in any number of shards."""
        if not isinstance(parameter, DTensor):
            return whole(stored)
        length = -(-parameter.shape[0] // self.ranks.world)
        shard = whole(stored)[length * self.ranks.rank : length * (self.ranks.rank + 1)]
        return shard.to(parameter.device, copy=True)

    def whole_state(self, model: Any, trained_only: bool = False) -> dict[str, Tensor] | None:
        """Gathers the weights on rank 0, in host memory, one tensor at a time."""
        options = StateDictOptions(
            full_state_dict=True, cpu_offload=True, ignore_frozen_params=trained_only
        )
        return cast(dict[str, Tensor], get_model_state_dict(model, options=options))


def _layers(model: Any) -> list[nn.Module]:
    """Returns the decoder layers: the longest list of modules of one class in the model."""
    lists = [
        list(module)
        for module in model.modules()
        if isinstance(module, nn.ModuleList) and len({type(item) for item in module}) == 1
    ]
    return max(lists, key=len, default=[])
