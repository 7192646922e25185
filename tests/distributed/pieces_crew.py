"""One rank of `test_pieces.py`: adapters on ranks, and what each rank holds of a model in pieces.

`python pieces_crew.py FOLDER`; FOLDER holds `model/`, a Hugging Face folder, and `rows.pkl`. Rank 0
leaves `found.pt` in it.
"""

from __future__ import annotations

import pickle
from collections.abc import Iterable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import rectifiers_crew
import torch
from crew import BATCH, CASES, ENGINES, assembled, engine_for, loader_for, run_steps, take_part
from helpers.adapters import EVERY_ADAPTER

from unlearn_runner.data.prompts import Template
from unlearn_runner.data.rows import QA, Rows
from unlearn_runner.distributed.fsdp2 import FSDP2
from unlearn_runner.distributed.layout import Layout
from unlearn_runner.distributed.shards import Shards
from unlearn_runner.evaluation.probes.alternates import sample
from unlearn_runner.methods.altpo import Alternates
from unlearn_runner.methods.base import needs_start_model
from unlearn_runner.models.adapters.lora import LoRA
from unlearn_runner.models.load import for_training, load_tokenizer
from unlearn_runner.pipeline.session import Session
from unlearn_runner.rectifiers.gru import MEAN
from unlearn_runner.training import checkpoint
from unlearn_runner.training.engine import Engine
from unlearn_runner.training.fisher import Estimate, batches, only_measured
from unlearn_runner.training.recipe import Recipe

STEPS = 4
ADAPTED = (
    *("lora gd+gru", "lora kl+gru", "rslora ga+gru", "dora kl+gru", "pissa gd+gru", "fila kl+gru"),
)
"""Adapters and what they are trained by; KL's start model is the trained one with its adapter off,
and a copy under FILA."""
CREWED = ("ddp", "fsdp2")
OFFLOAD = FSDP2(device="cpu", threads=1, offload=True)


def adapted(folder: Path, rows: Any, session: Session, name: str) -> Engine:
    """Returns an engine that trains an adapter of an odd rank under gradient checkpointing."""
    kind, _, case = name.partition(" ")
    method, _ = CASES[case]
    adapter = replace(EVERY_ADAPTER[kind], rank=3, alpha=6.0)
    place = folder / "model"
    weights = fisher(folder, rows, replace(session, layout=Layout()), adapter)
    model = session.trainable(place, "float64", lambda loaded: adapter.attach(loaded, 5, weights))
    model, held = for_training(model, True), None
    if needs_start_model(method.terms()):
        held = adapter.start(model)
        held = session.trainable(place, "float64").eval() if held is None else held
    recipe = Recipe(lr=1e-3, batch_size=BATCH, steps=STEPS, micro_batch=3, precision="float64")
    return assembled(rows, session, (model, held), case, recipe)


def fisher(folder: Path, rows: Any, session: Session, adapter: LoRA) -> Any:
    """Returns the row weights that an adapter needs, of the session's layout; odd batches."""
    if (how := adapter.importance) is None:
        return None
    how = replace(how, batch=3)
    prepare = partial(only_measured, importance=how, part=0)
    model = session.trainable(folder / "model", "float64", prepare).eval()
    pairs = batches(how, rows["forget"], rows["retain"])
    return Estimate(model, how, session.layout, 2, rows["pad"]).row_weights(pairs)[0]


def trained(engine: Engine) -> torch.Tensor | None:
    """Returns all trained weights in their names' order; of pieces, on rank 0."""
    model = engine.models.trained
    names = sorted(name for name, p in model.named_parameters() if p.requires_grad)
    state = engine.layout.whole_state(model)
    if state is None:
        state = dict(model.named_parameters())
    return torch.cat([state[name].detach().reshape(-1) for name in names]) if state else None


def run(engine: Engine, rows: Any, steps: int = STEPS) -> Any:
    """Returns the trained weights before and after some steps, and the steps' telemetry."""
    engine.models.trained.train()
    before = trained(engine)
    return before, run_steps(engine, rows, 0, steps), trained(engine)


def held(folder: Path, rows: Any, session: Session) -> dict[str, Any]:
    """Returns how many numbers this rank holds, by what they are, after a step of KL + GRU."""
    engine = engine_for(folder, rows, session, "kl+gru", "float32")
    run_steps(engine, rows, 0, 1)
    gradients, _ = engine.gradients(loader_for(rows).step(1))
    moments = [x for s in engine.optimizer.state.values() for x in s.values() if x.dim()]
    place = folder / f"checkpoint-{'pieces' if isinstance(session.layout, Shards) else 'whole'}"
    if session.ranks.main:
        place.mkdir()
    session.ranks.barrier()
    checkpoint.save(place, "key", 1, engine.state(1), session.ranks)
    start: Any = engine.models.start
    return {
        "weights": here(engine.models.trained.parameters()),
        "start model": here(start.parameters()),
        "moments": here(moments),
        **{f"gradient of {name}": here(found) for name, found in gradients.items()},
        "GRU's mean": here(engine.rectifier_state[MEAN]),
        "remembered": sorted(engine.rectifier_state),
        "files": {p.name: p.stat().st_size for p in sorted(place.glob("*.pt"))},
    }


def alternates(folder: Path, session: Session) -> list[list[str]]:
    """Returns sampled answers to forty questions: three batches in the first round."""
    rows = Rows("asked", tuple(QA(f"Who is number {n}?", "nobody") for n in range(40)))
    setting = Alternates(number=2, max_new_tokens=5)
    model = session.frozen(folder / "model", "float32")
    template = Template(prompt="{question}\n", answer=" {answer}")
    tokenizer = load_tokenizer(folder / "model")
    return sample(model, tokenizer, template, rows, setting, 3, session.ranks)


def here(tensors: Iterable[Any]) -> int:
    """Returns the numbers in this process's memory: of the storages, views counted once."""
    seen = {}
    for tensor in tensors:
        if tensor is not None:
            local = tensor.to_local() if hasattr(tensor, "to_local") else tensor
            storage = local.detach().untyped_storage()
            seen[storage.data_ptr() or id(local)] = storage.nbytes() // local.element_size()
    return sum(seen.values())


def everything(folder: Path, session: Session) -> dict[Any, Any]:
    rows, found = pickle.loads((folder / "rows.pkl").read_bytes()), {}
    for name in CREWED:
        layout = ENGINES[name].layout(session.ranks, session.device)
        inside = replace(session, layout=layout)
        for case in ADAPTED:
            found[name, case] = run(adapted(folder, rows, inside, case), rows)
        own = fisher(folder, rows, inside, EVERY_ADAPTER["fila"])
        found[name, "fisher"] = session.ranks.all_gather(own)
        whole = engine_for(folder, rows, inside, "gd+gru x2", "float64")
        found[name, "whole gd+gru"] = run(whole, rows)
        for rectifier in rectifiers_crew.DEFAULT:
            found[name, rectifier] = rectifiers_crew.run(folder, rows, inside, rectifier)
        found[name, "held"] = session.ranks.all_gather(held(folder, rows, inside))
    offloaded = replace(session, layout=OFFLOAD.layout(session.ranks, session.device))
    whole = engine_for(folder, rows, offloaded, "gd+gru x2", "float64")
    found["offload", "whole gd+gru"] = run(whole, rows)
    found["alternates"] = session.ranks.all_gather(alternates(folder, session))
    return found


if __name__ == "__main__":
    take_part(everything)
