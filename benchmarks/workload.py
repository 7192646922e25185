"""What the benchmarks run on: rows, a model of a given size, engines as the stages build them."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from unlearn_runner.data.encode import Encoded, encode_rows, with_start
from unlearn_runner.data.people import People
from unlearn_runner.data.prompts import Template
from unlearn_runner.data.rows import Rows
from unlearn_runner.data.sources import Tofu
from unlearn_runner.distributed.single import Single
from unlearn_runner.evaluation.probes.logprobs import probe
from unlearn_runner.methods.base import Method, Retain, Term
from unlearn_runner.methods.ga import GA
from unlearn_runner.methods.losses import NLL
from unlearn_runner.methods.npo import NPO
from unlearn_runner.models.adapters.base import Adapter
from unlearn_runner.models.adapters.none import NoAdapter
from unlearn_runner.models.forward import Models
from unlearn_runner.models.load import new_model, train_tokenizer
from unlearn_runner.models.shape import Shape
from unlearn_runner.pipeline.session import Session, open_session
from unlearn_runner.rectifiers.base import Rectifier
from unlearn_runner.training.batches import StepLoader
from unlearn_runner.training.engine import Engine
from unlearn_runner.training.recipe import Recipe

TEMPLATE = Template(prompt="Question: {question}\nAnswer:", answer=" {answer}")
LONGEST = 512

METHODS: dict[str, Method | None] = {
    "fine-tune": None,
    "GradDiff": GA(retain=Retain(loss="nll")),
    # So little of the retain gradient that the step conflicts with it and is rectified.
    "GradDiff x 0.1": GA(retain=Retain(loss="nll", weight=0.1)),
    "NPO": NPO(beta=0.1, retain=Retain(loss="nll")),
}


@dataclass
class Workload:
    """Encoded rows and the model that every measured loop starts from."""

    session: Session
    tokenizer: Any
    model: Any
    forget: list[Encoded]
    retain: list[Encoded]
    source: str

    def engine(
        self,
        method: str,
        recipe: Recipe,
        rectifier: Rectifier | None = None,
        adapter: Adapter | None = None,
        row_weights: dict[str, Any] | None = None,
    ) -> Engine:
        """Returns a fresh engine on a copy of the model, as the stages build it."""
        chosen = METHODS[method]
        terms = chosen.terms() if chosen else (Term("train", "train", NLL()),)
        model = (adapter or NoAdapter()).attach(deepcopy(self.model), 0, row_weights)
        models = Models(model, None, partial(self.session.autocast, "float32"))
        more = {} if rectifier is None else {"rectifier": rectifier}
        return Engine(models, terms, recipe, len(self.forget), self.tokenizer.pad_token_id, **more)

    def step_loader(self, method: str, recipe: Recipe) -> StepLoader:
        """Returns the loader that the stages would make."""
        if METHODS[method] is None:
            return StepLoader("train", self.retain, recipe.batch_size, 0)
        return StepLoader("forget", self.forget, recipe.batch_size, 0, self.retain)


def prepare(folder: Path | None, shape: Shape, vocab: int, threads: int) -> Workload:
    """Reads TOFU's forget10 and retain90 from a folder, or generates rows where there is none."""
    session = open_session(Single(device="cpu", threads=threads))
    if folder is None:
        people = People(people=200, questions=10)
        forget, retain = people.read("forget10"), people.read("retain90")
    else:
        tofu = Tofu(data_dir=str(folder))
        forget, retain = tofu.read("forget10"), tofu.read("retain90")
    texts = ["".join(TEMPLATE.texts(r.question, r.answer)) for r in (*forget.items, *retain.items)]
    tokenizer = train_tokenizer(texts, vocab)
    model = new_model(shape, tokenizer, seed=0)
    if len(tokenizer) < vocab:  # few texts have few merges; the size is what is measured
        model.resize_token_embeddings(vocab)
    encoded = [_encode(tokenizer, rows) for rows in (forget, retain)]
    started = with_start(encoded[0], _start(model, encoded[0], tokenizer.pad_token_id))
    source = "generated people" if folder is None else "TOFU forget10 and retain90"
    return Workload(session, tokenizer, model, started, encoded[1], source)


def _encode(tokenizer: Any, rows: Rows) -> list[Encoded]:
    return encode_rows(tokenizer, TEMPLATE, rows, LONGEST)


def _start(model: Any, rows: list[Encoded], pad: int) -> list[np.ndarray[Any, Any]]:
    with torch.no_grad():
        found = probe(model.eval(), rows, pad, 32, "start logprobs")
    return [item.logprob for item in found]
