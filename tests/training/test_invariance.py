"""What must not change the numbers: the cut into micro-batches, padding, the order of rows.

And what the numbers must be: a plain float64 loop that shares no code with the engine.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.plain_loop import FlatAdamW, flat_gradient, mean_nll, mean_npo
from torch.nn.functional import pad as widen
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from unlearn_runner.data.encode import Batch, collate, with_start
from unlearn_runner.evaluation.probes.logprobs import probe
from unlearn_runner.methods.base import Method, Retain
from unlearn_runner.methods.ga import GA
from unlearn_runner.methods.npo import NPO
from unlearn_runner.models.forward import Models
from unlearn_runner.models.load import load_model, save
from unlearn_runner.rectifiers.base import Rectifier
from unlearn_runner.rectifiers.gru import GRU
from unlearn_runner.rectifiers.none import NoRectifier
from unlearn_runner.training.batches import MicroBatch, StepLoader, StepRows
from unlearn_runner.training.engine import Engine
from unlearn_runner.training.recipe import Recipe

pytestmark = pytest.mark.usefixtures("one_thread")

STEPS = 20
# Weights at which forgetting and retaining really conflict: GRU is triggered on many steps.
METHODS: dict[str, Method] = {
    "ga": GA(),
    "gd": GA(retain=Retain("nll", 0.2)),
    "kl": GA(retain=Retain("kl", 5.0)),
    "npo": NPO(beta=0.5, retain=Retain("nll", 0.2)),
}
RECTIFIERS: dict[str, Rectifier] = {"none": NoRectifier(), "gru": GRU(gamma=0.8)}
PAIRS = [(method, rectifier) for method in METHODS for rectifier in RECTIFIERS]
SOME = (("ga", "gru"), ("gd", "gru"), ("kl", "gru"), ("npo", "none"))


def engine_for(tiny: Any, method: str, rectifier: str, dtype: torch.dtype, **recipe: Any) -> Engine:
    return Engine(
        models=Models(tiny.llama(dtype), tiny.llama(dtype).eval(), nullcontext),
        terms=METHODS[method].terms(),
        recipe=Recipe(**{"lr": 1e-4, "batch_size": 32, "steps": STEPS, **recipe}),
        num_rows=len(tiny.forget),
        pad=tiny.pad,
        rectifier=RECTIFIERS[rectifier],
    )


def loader_for(tiny: Any, dtype: torch.dtype, batch_size: int = 32) -> Any:
    probed = probe(tiny.llama(dtype).eval(), tiny.forget, tiny.pad, 20, "start logprobs")
    forget = with_start(tiny.forget, [row.logprob for row in probed])
    return StepLoader("forget", forget, batch_size, 3, tiny.retain)


def weights(engine: Engine) -> torch.Tensor:
    return parameters_to_vector(engine.models.trained.parameters()).detach().clone()


def flat(engine: Engine, gradient: list[torch.Tensor | None]) -> torch.Tensor:
    pairs = zip(engine.space.parameters, gradient, strict=True)
    return torch.cat([(torch.zeros_like(p) if g is None else g).reshape(-1) for p, g in pairs])


def distance(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a.double() - b.double()).norm())


# --- the same rows, cut, padded and ordered differently


class Padded(StepRows):
    """Every micro-batch nine tokens wider than it need be, any token standing in the padding."""

    def micro(self, *arguments: Any) -> Iterator[MicroBatch]:
        for micro in super().micro(*arguments):
            yield replace(micro, batch=padded(micro.batch))


def padded(batch: Batch) -> Batch:
    """The other answers of the rows, too."""
    mask = widen(batch.attention_mask, (0, 9))
    noise = torch.arange(mask.numel()).reshape(mask.shape) % 391
    ids = torch.where(mask == 1, widen(batch.input_ids, (0, 9)), noise)
    other = None if batch.other is None else padded(batch.other)
    return replace(batch, input_ids=ids, attention_mask=mask, other=other)


class Shuffled(StepRows):
    """Rows as they come, in an order of their own, instead of sorted by length."""

    def micro(
        self, split: str, micro_batch: int | None, pad: int, device: torch.device, ranks: Any = None
    ) -> Iterator[MicroBatch]:
        rows = self.splits[split]
        order = np.random.default_rng(len(split)).permutation(len(rows))
        size = micro_batch or len(rows)
        for start in range(0, len(rows), size):
            batch = collate([rows[i] for i in order[start : start + size]], pad, device)
            yield MicroBatch(batch, is_filler=False, last=start + size >= len(rows))


VARIANTS = {"8x4": (StepRows, 4), "4x8": (StepRows, 8)}
LAYOUTS = {
    "more padding": (Padded, None),
    "more padding, 4x8": (Padded, 8),
    "another order": (Shuffled, None),
    "another order, 4x8": (Shuffled, 8),
}


def after_steps(
    tiny: Any, pair: tuple[str, str], layout: type[StepRows], micro_batch: int | None
) -> tuple[torch.Tensor, torch.Tensor, int]:
    """Weights before and after twenty float64 steps, and how many of them were rectified."""
    engine = engine_for(tiny, *pair, torch.float64, micro_batch=micro_batch)
    loader, before, rectified = loader_for(tiny, torch.float64), weights(engine), 0
    for step in range(STEPS):
        facts = engine.step(layout(loader.step(step).splits))
        assert facts is not None
        rectified += bool(facts.get("rectified"))
    return before, weights(engine), rectified


@pytest.fixture(scope="module")
def whole(tiny: Any) -> Any:
    """After twenty steps of batch 32x1, computed once per method and rectifier."""
    known: dict[tuple[str, str], Any] = {}

    def get(pair: tuple[str, str]) -> Any:
        if pair not in known:
            known[pair] = after_steps(tiny, pair, StepRows, None)
        return known[pair]

    return get


@pytest.mark.parametrize(("micro_batch", "sizes"), [(None, [32]), (8, [8] * 4), (4, [4] * 8)])
def test_a_step_is_cut_into_micro_batches_that_hold_every_row_once(
    tiny: Any, micro_batch: int | None, sizes: list[int]
) -> None:
    rows = StepLoader("forget", tiny.forget, 32, 3, tiny.retain).step(0)
    cut = [m.batch for m in rows.micro("forget", micro_batch, tiny.pad, torch.device("cpu"))]
    assert [batch.num_rows for batch in cut] == sizes
    found = [
        tuple(ids[mask == 1].tolist())
        for batch in cut
        for ids, mask in zip(batch.input_ids, batch.attention_mask, strict=True)
    ]
    assert sorted(found) == sorted(row.ids for row in rows.splits["forget"])


@pytest.mark.parametrize(
    "pair",
    [p if p in SOME else pytest.param(p, marks=pytest.mark.long) for p in PAIRS],
    ids="+".join,
)
@pytest.mark.parametrize("variant", [pytest.param("8x4", marks=pytest.mark.long), "4x8"])
def test_after_20_steps_in_float64_the_cut_left_no_trace(
    tiny: Any, whole: Any, pair: tuple[str, str], variant: str
) -> None:
    before, expected, rectified = whole(pair)
    _, found, _ = after_steps(tiny, pair, *VARIANTS[variant])
    assert distance(found, expected) < 1e-10 * distance(expected, before)
    assert distance(found, expected) > 0, "the cut changed nothing at all: was there a cut?"
    assert bool(rectified) == (pair[1] == "gru"), "GRU's own arithmetic must take part"


@pytest.mark.parametrize("pair", [("gd", "gru"), ("npo", "none"), ("kl", "gru")], ids="+".join)
@pytest.mark.parametrize("variant", ["more padding", "another order, 4x8"])
def test_after_20_steps_in_float64_padding_and_order_left_no_trace(
    tiny: Any, whole: Any, pair: tuple[str, str], variant: str
) -> None:
    before, expected, _ = whole(pair)
    _, found, _ = after_steps(tiny, pair, *LAYOUTS[variant])
    assert distance(found, expected) < 1e-10 * distance(expected, before)
    assert distance(found, expected) > 0


@pytest.mark.parametrize("pair", PAIRS, ids="+".join)
@pytest.mark.parametrize("variant", [*VARIANTS, *LAYOUTS, "another pad token"])
def test_in_float32_the_first_gradients_agree_however_the_batch_is_laid_out(
    tiny: Any, pair: tuple[str, str], variant: str
) -> None:
    rows = loader_for(tiny, torch.float32).step(0)
    layout, micro_batch = {**VARIANTS, **LAYOUTS}.get(variant, (StepRows, None))
    plain = engine_for(tiny, *pair, torch.float32)
    other = engine_for(tiny, *pair, torch.float32, micro_batch=micro_batch)
    if variant == "another pad token":
        other.pad = 300
    expected, losses = plain.gradients(rows)
    found, other_losses = other.gradients(layout(rows.splits))
    assert found.keys() == expected.keys()
    for group in expected:
        a, b = flat(plain, expected[group]), flat(other, found[group])
        assert distance(a, b) < 1e-5 * float(a.norm()), group
    assert other_losses == pytest.approx(losses, rel=1e-5, abs=1e-6)


def test_a_model_loaded_for_float64_computes_in_float64_throughout(
    tiny: Any, tmp_path: Path
) -> None:
    save(tiny.llama(), tiny.tokenizer, tmp_path)
    model = load_model(tmp_path, "float64", torch.device("cpu"))
    ids = torch.tensor([tiny.rows[0].ids])
    with torch.no_grad():
        before = model.base_model(input_ids=ids).last_hidden_state
        model.get_input_embeddings().weight[tiny.rows[0].ids[0]] += 1e-13
        after = model.base_model(input_ids=ids).last_hidden_state
    assert 0 < float((after - before).abs().max()) < 1e-10


# --- an independent reference


@pytest.mark.parametrize("name", ["gd+gru", "npo+none"])
def test_the_engine_takes_the_steps_of_a_plain_loop(tiny: Any, name: str) -> None:
    steps, warmup, batch_size, peak = 10, 2, 8, 3e-4
    method, rectifier = name.split("+")
    engine = engine_for(
        tiny,
        *(method, rectifier),
        torch.float64,
        **{"batch_size": batch_size, "micro_batch": 3, "lr": peak, "steps": steps},
        **{"schedule": "linear", "warmup_steps": warmup, "clip": 0.7},
    )
    loader = loader_for(tiny, torch.float64, batch_size)
    before = weights(engine)

    model, start = tiny.llama(torch.float64), tiny.llama(torch.float64)
    w = before.clone()
    adam, mean, triggered = FlatAdamW(len(w)), torch.zeros_like(w), []
    for step in range(steps):
        rows = loader.step(step)
        forget, retain = rows.splits["forget"], rows.splits["retain"]
        kept = flat_gradient(model, mean_nll(model, retain))
        if method == "gd":
            g = flat_gradient(model, -mean_nll(model, forget)) + 0.2 * kept
        else:
            g = flat_gradient(model, mean_npo(model, start, forget, beta=0.5)) + 0.2 * kept
        if rectifier == "gru":
            mean = 0.2 * mean + 0.8 * kept
            triggered.append(bool(g @ mean < 0))
            if triggered[-1]:
                g = g - (g @ mean) / (mean @ mean) * mean
        norm = float(g.norm())
        g = g * min(1.0, 0.7 / (norm + 1e-6))
        rate = step / warmup if step < warmup else (steps - step) / (steps - warmup)
        w = adam.step(w, g, peak * rate)
        vector_to_parameters(w, model.parameters())

        facts = engine.step(rows)
        assert facts is not None
        assert facts["grad_norm"] == pytest.approx(norm, rel=1e-7)
        assert facts["lr"] == pytest.approx(peak * rate, abs=1e-15)
        if rectifier == "gru":
            assert facts["rectified"] is triggered[-1]
        assert math.isfinite(norm)
        assert step > 0 or norm > 0.7, "clipping must take part"
    assert distance(weights(engine), w) < 1e-9 * distance(w, before)
    if rectifier == "gru":
        assert 0 < sum(triggered) < steps, "both branches must take part"
