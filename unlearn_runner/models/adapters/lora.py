"""LoRA: low-rank additions to frozen linear maps, trained in their place."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar

from annotated_types import Ge, Gt, Le, Lt

from unlearn_runner.errors import ConfigError
from unlearn_runner.models.adapters.base import Adapter, Base, Floating, Sizes, Storage
from unlearn_runner.models.adapters.files import NAME, Tensors, read_adapter, write_adapter
from unlearn_runner.models.adapters.targets import Targets, chosen, linear_modules
from unlearn_runner.models.quiet import quietly

SUBFOLDER = "adapter"
"""Folder in which a merged model keeps the adapter that was merged."""


@dataclass(frozen=True)
class LoRA(Adapter):
    """y = W x + (alpha / rank) B A x, with W frozen and A, B in float32.

    Source: Hu et al. 2022, by peft. A is drawn as peft draws it (Kaiming uniform with a = sqrt(5),
    that is uniform within 1 / sqrt(columns)), B is zero: training begins at the start model, with
    no gradient for A in the first step. Deviation: each module's A is drawn from (seed, module
    name), so it depends neither on the device nor on which other modules are adapted.
    """

    alpha_per_rank: ClassVar[float] = 2.0
    """What `alpha=null` multiplies the rank by."""

    rank: Annotated[int, Ge(1), Le(65536)] = 8
    alpha: Annotated[float, Gt(0)] | None = 32.0
    """The addition is scaled by alpha / rank; null is a multiple of the rank: twice (LoKU), and
    once under `pissa`."""
    dropout: Annotated[float, Ge(0), Lt(1)] = 0.05
    """On the adapter's input, in training."""
    targets: Targets = "all_linear"
    """Every linear module but the projection to the vocabulary, those of attention blocks, or the
    other ones of the decoder layers; vision and audio towers have none."""
    regex: str | None = None
    """Of the targets, only modules in whose full name this is found: `[qv]_proj`."""
    layers: tuple[Annotated[int, Ge(0)], Annotated[int, Ge(0)]] | None = None
    """Of the targets, only modules in these layers: [first, last], from 0, both included."""
    base_dtype: Floating = "float32"
    """Number format of the frozen weights in training: bf16 takes half their memory. Evaluation
    and merging read the start model as it lies on the disk."""
    merge: bool = False
    """Keep an ordinary model with the adapter added to its weights (and the adapter below it, in
    `adapter/`) instead of the adapter alone."""

    def __post_init__(self) -> None:
        if self.layers is not None and self.layers[0] > self.layers[1]:
            first, last = self.layers
            raise ConfigError(
                f"adapter.layers=[{first},{last}] holds no layer; allowed: [first,last]",
                f"adapter.layers=[{last},{first}]",
            )
        try:
            re.compile(self.regex or "")
        except re.error as error:
            raise ConfigError(
                f"adapter.regex={self.regex} is no regular expression: {error}",
                "'adapter.regex=\"[qv]_proj\"' (in both pairs of quotes)",
            ) from None

    @property
    def storage(self) -> Storage:
        """Of the frozen weights."""
        return self.base_dtype

    @property
    def trains_a_part(self) -> bool:
        """A and B."""
        return True

    @property
    def whole(self) -> bool:
        """Only when merged."""
        return self.merge

    @property
    def drops_out(self) -> bool:
        """As `dropout` says."""
        return self.dropout > 0

    @property
    def holds_start(self) -> bool:
        """With the adapter off."""
        return True

    def trained_parameters(self, sizes: Sizes) -> int:
        """Returns the size of A and B beside all targets, whatever `regex` and `layers` leave."""
        return sizes.adapted(self.rank, self.targets != "mlp", self.targets != "attention")

    def check(self, precision: str, save_dtype: str) -> None:
        """Refuses what would have no effect, or undo another setting."""
        if self.base_dtype == "bf16" and precision == "float64":
            raise ConfigError(
                "adapter.base_dtype=bf16 does not go with train.precision=float64",
                "adapter.base_dtype=float32 (then the frozen weights are float64, too)",
            )
        if save_dtype != "float32" and not self.merge:
            raise ConfigError(
                f"save_dtype={save_dtype} is of whole models; an adapter is kept in float32",
                f"adapter.merge=true save_dtype={save_dtype}, or save_dtype=float32",
            )

    def options(self) -> dict[str, Any]:
        """Returns further arguments of peft's `LoraConfig`, for variants of LoRA."""
        return {}

    def attach(self, model: Any, seed: int, row_weights: Mapping[str, Any] | None = None) -> Any:
        """Returns the model with A and B beside every target, and nothing else trainable."""
        import torch
        from peft import LoraConfig, inject_adapter_in_model
        from transformers.pytorch_utils import Conv1D

        modules = linear_modules(model)
        targets = chosen(modules, self.targets, self.regex, self.layers)
        alpha = self.alpha_per_rank * self.rank if self.alpha is None else self.alpha
        config = LoraConfig(
            r=self.rank,
            # A whole number where it is one: so it stands in adapter_config.json.
            lora_alpha=int(alpha) if alpha.is_integer() else alpha,  # pyright: ignore
            lora_dropout=self.dropout,
            target_modules=targets,
            bias="none",
            task_type="CAUSAL_LM",
            fan_in_fan_out=any(isinstance(modules[name], Conv1D) for name in targets),
            **self.options(),
        )
        with quietly(), torch.random.fork_rng(devices=[]):  # what peft draws is drawn again below
            model = inject_adapter_in_model(config, model, NAME)
        model.peft_config[NAME].target_modules = sorted(targets)
        exact = modules[targets[0]].weight.dtype == torch.float64
        for parameter in model.parameters():
            if parameter.requires_grad:  # masters, also where the frozen weights are bf16
                parameter.data = parameter.data.to(torch.float64 if exact else torch.float32)
        for name in targets:
            self.begin(model.get_submodule(name), name, seed, row_weights)
        return model

    def begin(
        self, module: Any, name: str, seed: int, row_weights: Mapping[str, Any] | None
    ) -> None:
        """Gives what is trained beside a linear map its first values; B is zero already."""
        _draw(module.lora_A[NAME].weight, seed, name)

    def load(self, model: Any, folder: Path) -> None:
        """Gives A and B the values that were saved."""
        read_adapter(model, folder / SUBFOLDER if self.merge else folder, self.imported)

    def imported(self, tensors: Tensors) -> Tensors:
        """Returns the tensors of a kept adapter as the trained model has them."""
        return tensors

    def exported(self, model: Any, config: Any, tensors: Tensors) -> Tensors:
        """Returns a trained model's tensors as peft adds them to the start model.

        `config` is a copy of peft's configuration, and is changed to go with them.
        """
        return tensors

    def start(self, model: Any) -> Any | None:
        """Returns the model with the adapter off."""
        return AdapterOff(model)

    def save(
        self,
        model: Any,
        tokenizer: Any,
        folder: Path,
        base: Base,
        dtype: str,
        state: dict[str, Any] | None = None,
    ) -> None:
        """Writes a folder that peft loads, or an ordinary model."""
        from unlearn_runner.models import load

        load.save_tokenizer(tokenizer, folder)
        if not self.merge:
            write_adapter(model, folder, base.name, state, self.exported)
            return
        write_adapter(model, folder / SUBFOLDER, base.name, state, self.exported)
        # The start model in float32: bf16 weights would swallow most of what is added to them.
        merged = load.merged(base.folder, folder / SUBFOLDER)
        load.save(merged, tokenizer, folder, dtype)


class AdapterOff:
    """View of a trained model as it was before: one that runs without its adapter.

    It holds no weights. Its own dropout is off, too, whatever the trained model is doing.
    """

    def __init__(self, model: Any) -> None:
        self._model = model

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Runs the model's forward pass without the adapter."""
        with _off(self._model):
            return self._model(*args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        """Returns what the model has under that name: its configuration, its modules."""
        return getattr(self._model, name)


@contextmanager
def _off(model: Any) -> Iterator[None]:
    """Turns the adapter and all dropout off.

    peft's own `disable_adapter` also sets `requires_grad` of A and B to false and back, in the
    middle of a step whose graph needs them, and where FSDP2 reads it when it gathers weights.
    """
    from peft.tuners.tuners_utils import BaseTunerLayer

    layers = [module for module in model.modules() if isinstance(module, BaseTunerLayer)]
    training = model.training
    model.eval()
    for layer in layers:
        layer._disable_adapters = True
    try:
        yield
    finally:
        for layer in layers:
            layer._disable_adapters = False
        model.train(training)


def _draw(weight: Any, seed: int, name: str) -> None:
    """Fills A from (seed, name) alone: on the CPU in float32, wherever and whatever A is."""
    import torch

    digest = hashlib.sha256(f"lora {seed} {name}".encode()).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)
    bound = weight.shape[1] ** -0.5
    drawn = torch.empty(weight.shape).uniform_(-bound, bound, generator=generator)
    with torch.no_grad():
        weight.copy_(drawn)
