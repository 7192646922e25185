"""The estimate of memory against bytes that the allocator counts, at a step's fullest moment."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.distributed.tensor import DTensor
from transformers import LlamaConfig, LlamaForCausalLM

from unlearn_runner.commands.estimate.memory import LargestBatch, Setting, peak
from unlearn_runner.commands.estimate.sizes import Sizes
from unlearn_runner.data.encode import Encoded
from unlearn_runner.distributed.layout import Layout
from unlearn_runner.methods.base import Method, Retain
from unlearn_runner.methods.dpo import DPO
from unlearn_runner.methods.ga import GA
from unlearn_runner.models.adapters.lora import LoRA
from unlearn_runner.models.forward import Models
from unlearn_runner.models.load import for_training
from unlearn_runner.rectifiers.base import Rectifier
from unlearn_runner.rectifiers.gru import GRU
from unlearn_runner.rectifiers.none import NoRectifier
from unlearn_runner.training.batches import StepLoader
from unlearn_runner.training.engine import Engine
from unlearn_runner.training.recipe import Recipe

pytestmark = pytest.mark.usefixtures("one_thread")

GD, KL, AP = (GA(retain=Retain(loss, 1.0)) for loss in ("nll", "kl", "ap"))
M20 = {"hidden_size": 448, "intermediate_size": 1152, "layers": 7, "heads": 7, "vocab": 8000}
M40 = {**M20, "hidden_size": 512, "intermediate_size": 1408, "heads": 8, "kv": 2, "vocab": 16_000}
M60 = {"hidden_size": 640, "intermediate_size": 1728, "layers": 8, "heads": 10, "vocab": 32_000}
LENGTH, PROMPT, OTHER = 96, 48, 32
"""Tokens of a row, of them in front of the answer; of another answer."""


def of_sizes(sizes: dict[str, int], tied: bool) -> Any:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=sizes["vocab"],
        hidden_size=sizes["hidden_size"],
        intermediate_size=sizes["intermediate_size"],
        num_hidden_layers=sizes["layers"],
        num_attention_heads=sizes["heads"],
        num_key_value_heads=sizes.get("kv", sizes["heads"]),
        tie_word_embeddings=tied,
        max_position_embeddings=128,
        attn_implementation="sdpa",
    )
    return LlamaForCausalLM(config)


def bytes_of(tensors: Any) -> int:
    """Bytes here of all tensors in a nested structure, each storage once."""
    seen: dict[int, int] = {}

    def visit(content: Any) -> None:
        if isinstance(content, DTensor):
            visit(content.to_local())
        elif isinstance(content, torch.Tensor):
            storage = content.untyped_storage()
            seen[storage.data_ptr()] = storage.nbytes()
        elif isinstance(content, dict):
            visit(list(content.values()))
        elif isinstance(content, (list, tuple)):
            for item in content:
                visit(item)

    visit(tensors)
    return sum(seen.values())


def counted(engine: Engine, step: Any) -> int:
    """What is held between steps, and the most that one adds to it, as the profiler saw it."""
    engine.step(step)
    engine.space.clear()
    models = [
        m for m in (engine.models.trained, engine.models.start) if isinstance(m, torch.nn.Module)
    ]
    weights = [list(model.parameters()) for model in models]
    held = bytes_of([weights, list(engine.optimizer.state.values()), engine.rectifier_state])
    activities = [torch.profiler.ProfilerActivity.CPU]
    with torch.profiler.profile(activities=activities, profile_memory=True) as profile:
        engine.step(step)
    events: Any = profile.profiler.kineto_results.events()  # type: ignore
    moves = sorted((e.start_ns(), e.nbytes()) for e in events if e.name() == "[memory]")
    now = most = 0
    for _, count in moves:
        now += count
        most = max(most, now)
    return held + most


def rows_of(count: int, compared: bool) -> list[Encoded]:
    """Rows, with another answer each where it is compared with the row's own."""
    rows = [Encoded(tuple(range(i, i + LENGTH)), PROMPT) for i in range(count)]
    if not compared:
        return rows
    own, others = (np.full(number, -1.0, np.float32) for number in (LENGTH - PROMPT, OTHER))
    return [
        replace(
            row,
            start_logprob=own,
            other=Encoded(row.ids[: PROMPT + OTHER], PROMPT, start_logprob=others),
        )
        for row in rows
    ]


CASES: list[Any] = [
    ("20 M, none", M20, True, GA(), NoRectifier(), 4, None, {}),
    ("20 M, KL holds the start model", M20, True, KL, NoRectifier(), 4, 2, {}),
    ("40 M, bf16, grouped queries, gru", M40, False, GD, GRU(), 4, 2, {"precision": "bf16"}),
    ("40 M, LoRA, gru", M40, False, GD, GRU(), 4, 2, {"adapter": LoRA(rank=16)}),
    ("60 M, none", M60, True, GD, NoRectifier(), 2, 1, {}),
    ("60 M, gru", M60, True, GD, GRU(), 2, 1, {}),
    ("20 M, LoRA, checkpointing", M20, True, GD, GRU(), 4, 2, {"adapter": LoRA(), "again": True}),
    ("20 M, DPO compares two answers", M20, True, DPO(), NoRectifier(), 8, 4, {"after": 1}),
    ("20 M, DPO in one pass, gru", M20, False, DPO(), GRU(), 12, None, {"after": 0}),
    ("20 M, AP", M20, False, AP, NoRectifier(), 4, None, {"after": 1}),
]


LONG = (
    *("20 M, KL holds the start model", "40 M, bf16, grouped queries, gru", "60 M, none"),
    *("20 M, DPO compares two answers", "20 M, DPO in one pass, gru", "20 M, AP"),
)


@pytest.mark.parametrize(
    ("sizes", "tied", "method", "rectifier", "batch", "micro", "more"),
    [
        pytest.param(*case[1:], id=case[0], marks=[pytest.mark.long] if case[0] in LONG else [])
        for case in CASES
    ],
)
def test_the_estimate_is_within_a_tenth_of_what_is_counted(
    sizes: dict[str, int],
    tied: bool,
    method: Method,
    rectifier: Rectifier,
    batch: int,
    micro: int | None,
    more: dict[str, Any],
) -> None:
    model = of_sizes(sizes, tied)
    known = Sizes.of_config(model.config.to_dict())
    everything = sum(p.numel() for p in model.parameters())
    assert known.parameters == everything
    held = deepcopy(model).eval() if method is KL else None
    adapter, precision = more.get("adapter"), more.get("precision", "float32")
    if adapter is not None:
        model = adapter.attach(model, 0)
    model = for_training(model, more.get("again", False))
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    rows, compared = rows_of(batch, "after" in more), more.get("after")
    engine = Engine(
        models=Models(model.train(), held, partial(Layout().autocast, precision)),
        terms=method.terms(),
        recipe=Recipe(batch_size=batch, micro_batch=micro, precision=precision),
        num_rows=batch,
        pad=0,
        rectifier=rectifier,
    )
    size = micro or batch
    setting = Setting(
        trained=trained,
        frozen=everything if adapter else 0,
        precision=precision,
        groups=len(engine.groups),
        kept=isinstance(rectifier, GRU),
        passes=len(engine.groups[-1].terms) * (batch // size),
        holds_start_model=held is not None,
        over_vocabulary=4 if held else 2,
        compared_after=compared or 0,
        checkpointing=more.get("again", False),
        dropout=adapter is not None,
    )
    if adapter is not None:
        assert known.adapted(adapter.rank, True, True) == trained
    work = LargestBatch(size, LENGTH, size * (LENGTH - PROMPT))
    if compared is not None:
        work = replace(work, other_length=PROMPT + OTHER, other_scored=size * OTHER)
    found = peak(known, work, setting)
    real = counted(engine, StepLoader("forget", rows, batch, 0, rows).step(0))
    assert abs(found.total / real - 1) < 0.1, f"{found.total / real:.3f}: {found}"
    if tied and adapter is None:
        assert real > 3 * 4 * everything, "masters and moments alone"


@pytest.mark.parametrize("family", ["phi", "gpt_neox", "qwen2", "gemma", "gpt_neo", "mistral"])
def test_sizes_of_any_family(family: str, tmp_path: Path) -> None:
    """Within two percent of the real count: biases are left out."""
    from transformers import AutoConfig, AutoModelForCausalLM

    layers = {"num_layers": 2, "attention_types": [[["global", "local"], 1]]}
    if family != "gpt_neo":
        layers = {"num_hidden_layers": 2}
    config = AutoConfig.for_model(
        family,
        **{"hidden_size": 256, "vocab_size": 1000, "intermediate_size": 512},
        **layers,
        **({"num_heads": 4} if family == "gpt_neo" else {"num_attention_heads": 4}),
        **({"num_key_value_heads": 2} if family in ("qwen2", "mistral", "gemma") else {}),
        **({"head_dim": 64} if family == "gemma" else {}),
        max_position_embeddings=16,
    )
    model = AutoModelForCausalLM.from_config(config)
    config.save_pretrained(tmp_path)
    real = sum(p.numel() for p in model.parameters())
    assert Sizes.of_folder(tmp_path).parameters == pytest.approx(real, rel=0.02)
