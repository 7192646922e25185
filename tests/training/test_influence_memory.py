"""Bytes that a solution of an influence system holds, against those of a training step."""

from __future__ import annotations

import importlib
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch

from unlearn_runner.data.encode import encode
from unlearn_runner.data.people import People
from unlearn_runner.data.prompts import Template
from unlearn_runner.methods.base import Term
from unlearn_runner.methods.influence import Influence
from unlearn_runner.methods.losses import NLL
from unlearn_runner.models.adapters.lora import LoRA
from unlearn_runner.models.forward import Models
from unlearn_runner.models.load import new_model, train_tokenizer
from unlearn_runner.models.shape import Shape
from unlearn_runner.training.batches import StepLoader
from unlearn_runner.training.engine import Engine
from unlearn_runner.training.influence.risk import Request, Risk
from unlearn_runner.training.influence.solve import System
from unlearn_runner.training.recipe import Recipe

pytestmark = pytest.mark.usefixtures("one_thread")
MICRO = 4


@pytest.fixture(scope="module")
def bench() -> Any:
    """An engine that trains an adapter on eight rows, and those rows."""
    people = People(people=8, questions=1).read("full")
    template = Template(prompt="{question}\n", answer=" {answer}")
    texts = ["".join(template.texts(row.question, row.answer)) for row in people]
    tokenizer = train_tokenizer(texts, 400)
    rows = [encode(tokenizer, template, r.question, r.answer, 48) for r in people]
    model = new_model(Shape(64, 172, 2, 4, tie_embeddings=True, context=128), tokenizer, 0)
    model = LoRA(rank=4, alpha=8.0, dropout=0.0, regex="[qv]_proj").attach(model, 0)
    recipe = Recipe(batch_size=8, micro_batch=MICRO)
    models = Models(model, None, nullcontext)
    engine = Engine(models, (Term("train", "train", NLL()),), recipe, 8, tokenizer.pad_token_id)
    return engine, rows


@pytest.mark.parametrize(
    ("hvp", "bound"), [("double", 3), ("gauss_newton", 1.5), ("difference", 1.2)]
)
def test_a_solution_holds_no_more_than_some_training_steps(
    bench: Any, hvp: Any, bound: float
) -> None:
    """At the same micro-batch, with what each holds all the time: weights, or moments as well."""
    sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
    try:
        memory = importlib.import_module("memory")
    finally:
        sys.path.pop(0)
    engine, rows = bench
    loader = StepLoader("train", rows, 8, 0)
    engine.step(loader.step(0))  # the optimizer's moments are there from the first step on
    step = memory.peak_bytes(lambda: engine.step(loader.step(1)))
    weights = sum(p.nbytes for p in engine.models.trained.parameters())
    held = memory.state_bytes(engine)
    assert held > weights

    engine.models.trained.eval()
    risk = Risk(engine.models, engine.space, "token", MICRO, engine.pad)
    method = Influence(hvp=hvp, rows=None, iterations=3, tolerance=1e-9)
    system = System(method, Request(rows, rows[:1]), risk, 0)

    def solve() -> None:
        at = system.begin()
        while not at.done:
            system.advance(at)
        system.certificate(at, system.solver(at.facts, at.damping).solution(at.state, risk.space))

    with torch.random.fork_rng():
        solving = memory.peak_bytes(solve)
    print(f"{hvp}: {(weights + solving) / (held + step):.2f}, by itself {solving / step:.2f}")
    assert weights + solving <= bound * (held + step)
