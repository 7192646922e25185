"""One rank of the distributed tests: `python crew.py FOLDER ENGINE`, started once per rank.

Everything but the list of cases is the product's own: session, layouts, engine, checkpoints and
probes.
FOLDER holds `model/` (a Hugging Face folder) and `rows.pkl`; rank 0 leaves `found.pt` in it.
"""

from __future__ import annotations

import os
import pickle
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from math import ceil
from pathlib import Path
from typing import Any, NoReturn

import torch

from unlearn_runner.data.encode import with_start
from unlearn_runner.distributed.base import Parallel
from unlearn_runner.distributed.ddp import DDP
from unlearn_runner.distributed.fsdp2 import FSDP2
from unlearn_runner.distributed.shards import Shards
from unlearn_runner.distributed.single import Single
from unlearn_runner.evaluation.benchmarks.base import Generation
from unlearn_runner.evaluation.probes.generations import generate
from unlearn_runner.evaluation.probes.logprobs import probe
from unlearn_runner.methods.base import Method, Retain
from unlearn_runner.methods.ga import GA
from unlearn_runner.methods.npo import NPO
from unlearn_runner.models.forward import Models
from unlearn_runner.models.gradients import GradientSpace
from unlearn_runner.models.load import load_tokenizer
from unlearn_runner.pipeline.session import Session, open_session
from unlearn_runner.rectifiers.base import Corrected, OptimizerStep, Rectifier
from unlearn_runner.rectifiers.gru import GRU, MEAN
from unlearn_runner.rectifiers.none import NoRectifier
from unlearn_runner.training import checkpoint
from unlearn_runner.training.batches import StepLoader
from unlearn_runner.training.divergence import Diverged, count_nonfinite
from unlearn_runner.training.engine import Engine
from unlearn_runner.training.recipe import Recipe

STEPS, HALF = 20, 8
ENGINES: dict[str, Parallel] = {
    "single": Single(device="cpu", threads=1),
    "ddp": DDP(device="cpu", threads=1),
    "fsdp2": FSDP2(device="cpu", threads=1),
    "fsdp2-last": FSDP2(device="cpu", threads=1, reduce="last", reshard=False),
}


@dataclass(frozen=True)
class CorrectedGRU(GRU):
    """GRU that also keeps the optimizer's step from raising the retain risk."""

    def correct(self, step: OptimizerStep, state: Any, space: GradientSpace) -> Corrected:
        mean = state[MEAN]
        dot, square = space.dots((step.update, mean), (mean, mean))
        return Corrected(space.add(step.update, mean, -dot / square) if dot > 0 else None)


CASES: dict[str, tuple[Method, Rectifier]] = {
    "ga+gru": (GA(), GRU(gamma=0.8)),
    "gd+gru": (GA(retain=Retain("nll", 0.2)), GRU(gamma=0.8, tau=1.0)),
    "npo+none": (NPO(beta=0.5, retain=Retain("nll", 0.2)), NoRectifier()),
    "kl+gru": (GA(retain=Retain("kl", 5.0)), GRU(gamma=0.8)),
    "ga+corrected": (GA(), CorrectedGRU(gamma=0.8)),
}
LONG = ("ga+gru", "gd+gru", "gd+gru x4", "npo+none", "ga+corrected")
"""Cases of twenty steps; x4 is four micro-batches on each rank."""
BATCH = 13  # neither ranks nor micro-batches divide it


def freeze(model: Any) -> None:
    """Freezes a part, as adapters and some methods do."""
    for parameter in model.model.layers[0].self_attn.parameters():
        parameter.requires_grad_(False)


def loader_for(rows: dict[str, Any]) -> StepLoader:
    forget = with_start(rows["forget"], rows["start"])
    return StepLoader("forget", forget, BATCH, 3, rows["retain"])


def engine_for(folder: Path, rows: Any, session: Session, case: str, precision: str) -> Engine:
    name, _, times = case.partition(" x")
    ranks = session.ranks
    micro = ceil(ceil(BATCH / ranks.world) / int(times)) if times else None
    model = session.trainable(folder / "model", precision, freeze)
    held = session.trainable(folder / "model", precision).eval() if "kl" in name else None
    recipe = Recipe(
        lr=1e-4, batch_size=BATCH, steps=STEPS, micro_batch=micro, clip=0.7, precision=precision
    )
    return assembled(rows, session, (model, held), name, recipe)


def assembled(
    rows: Any, session: Session, models: tuple[Any, Any], case: str, recipe: Recipe
) -> Engine:
    """Returns the engine of a case with these models: the trained one, and one to start from."""
    method, rectifier = CASES[case]
    return Engine(
        models=Models(*models, partial(session.layout.autocast, recipe.precision)),
        terms=method.terms(),
        recipe=recipe,
        num_rows=len(rows["forget"]),
        pad=rows["pad"],
        rectifier=rectifier,
        layout=session.layout,
    )


def run_steps(engine: Engine, rows: Any, first: int, last: int) -> list[dict[str, Any]]:
    steps, facts = loader_for(rows), []
    for step in range(first, last):
        facts.append(engine.step(steps.step(step)))
    return facts


def weights(engine: Engine, session: Session) -> torch.Tensor | None:
    """All weights, in the names' order; where they are in shards, on rank 0."""
    trained = engine.models.trained
    state = session.layout.whole_state(trained)
    if state is None:
        state = trained.state_dict()
    return torch.cat([state[name].reshape(-1) for name in sorted(state)]) if state else None


def gradients(engine: Engine, rows: Any) -> tuple[torch.Tensor | None, dict[str, float]]:
    """The first step's gradients of all groups, whole, on rank 0."""
    found, losses = engine.gradients(loader_for(rows).step(0))
    whole = [
        full(engine, entry, parameter).reshape(-1)
        for group in sorted(found)
        for entry, parameter in zip(found[group], engine.space.parameters, strict=True)
    ]
    return torch.cat(whole), losses


def full(engine: Engine, entry: torch.Tensor | None, parameter: Any) -> torch.Tensor:
    """A parameter's gradient, whole, from what this rank holds of it."""
    if entry is None:
        return torch.zeros(parameter.shape, dtype=parameter.dtype)
    wrapped: Any = engine.layout.from_local(entry, parameter)
    return wrapped.full_tensor().clone() if hasattr(wrapped, "full_tensor") else wrapped.clone()


def rows_seen(engine: Engine, rows: Any, session: Session) -> list[Any]:
    """Token ids of every row that any rank computes with and counts, over three steps."""
    mine = []
    for step in range(3):
        for split in ("forget", "retain"):
            batches = loader_for(rows).step(step).micro(split, 2, 0, engine.device, session.ranks)
            for micro in batches:
                for ids, mask in zip(micro.batch.input_ids, micro.batch.attention_mask):  # noqa: B905
                    if not micro.is_filler:
                        mine.append((step, split, tuple(ids[mask == 1].tolist())))
    return sorted(row for part in session.ranks.all_gather(mine) for row in part)


def collectives(engine: Engine, rows: Any) -> Counter[str]:
    """Collectives of one step by name and, for all-reduces, size: the profiler's own account."""
    step = loader_for(rows).step(0)
    engine.step(step)  # the first one sets things up
    counted: Counter[str] = Counter()
    original = torch.distributed.all_reduce

    def counting(tensor: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        counted["scalars" if tensor.numel() <= 8 else "gradients"] += 1
        return original(tensor, *args, **kwargs)

    torch.distributed.all_reduce = counting
    kinds = ("all_gather", "allgather", "_allgather_base", "reduce_scatter", "broadcast")
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        engine.step(step)
    torch.distributed.all_reduce = original
    for event in profile.events():
        # What torch is asked for, by whomever and in whatever way; gloo's own reduce-scatter is an
        # all-reduce again below that.
        if event.name.startswith("c10d::allreduce"):
            counted["all-reduces in the profile"] += 1
        elif event.name.startswith("gloo:"):
            counted.update([word for word in kinds if word in event.name][:1])
    return counted


def asked(folder: Path, rows: Any, session: Session, engine: Engine) -> Any:
    """Evidence of an odd number of rows, from a whole model and from the trained one."""
    tokenizer = load_tokenizer(folder / "model")
    found = {}
    for name, model in (
        ("whole", session.frozen(folder / "model", "float32")),
        ("trained", engine.models.trained.eval()),
    ):
        encoded = rows["retain"][:23]
        probed = probe(model, encoded, rows["pad"], 4, "probe", session.ranks)
        texts = generate(
            *(model, tokenizer, encoded[:11], Generation(max_new_tokens=6)),
            *([tokenizer.eos_token_id], 2, "generate", session.ranks),
        )
        found[name] = ([p.logprob for p in probed], texts)
    return found


def resumed(folder: Path, rows: Any, session: Session, case: str) -> None:
    """Eight steps and a checkpoint, for whoever continues it."""
    engine = engine_for(folder, rows, session, case, "float64")
    run_steps(engine, rows, 0, HALF)
    place = folder / f"checkpoints-{case}"
    if session.ranks.main:
        place.mkdir()
    session.ranks.barrier()
    checkpoint.save(place, "key", HALF, engine.state(HALF), session.ranks)


def continued(folder: Path, source: Path, rows: Any, session: Session, case: str) -> Any:
    engine = engine_for(folder, rows, session, case, "float64")
    state = checkpoint.load(source / f"checkpoints-{case}", "key", engine.device, session.ranks)
    assert state is not None
    first = engine.restore(state)
    assert first == HALF
    run_steps(engine, rows, first, STEPS)
    return weights(engine, session)


def diverged(folder: Path, rows: Any, session: Session) -> list[Any]:
    """What every rank says when one weight of all is lost: before a step, and after one."""
    engine = engine_for(folder, rows, session, "gd+gru", "float32")
    step = loader_for(rows).step(0)
    facts = engine.step(step)
    engine.check_finite(step, facts)  # nothing is wrong yet
    assert count_nonfinite(engine.models.trained, engine.layout) == {}
    lines = []
    weight = engine.layout.to_local(engine.models.trained.get_input_embeddings().weight.detach())
    if not isinstance(engine.layout, Shards) or session.ranks.rank == session.ranks.world - 1:
        weight[-1, -1] = torch.nan
    for act in (lambda: engine.step(step), lambda: engine.check_finite(step, facts)):
        try:
            act()
        except Diverged as error:
            lines.append(error.line)
    return session.ranks.all_gather(lines)


def everything(folder: Path, session: Session, sources: list[Path]) -> dict[str, Any]:
    rows = pickle.loads((folder / "rows.pkl").read_bytes())
    found: dict[str, Any] = {"world": session.ranks.world}
    for case in LONG:
        engine = engine_for(folder, rows, session, case, "float64")
        before = weights(engine, session)
        found[case] = (before, run_steps(engine, rows, 0, STEPS), weights(engine, session))
    for case in CASES:
        engine = engine_for(folder, rows, session, case, "float32")
        found[f"gradient {case}"] = gradients(engine, rows)
        found[f"collectives {case}"] = collectives(engine, rows)
    found["collectives gd+none"] = collectives(gd_without(folder, rows, session), rows)
    found["rows"] = rows_seen(engine, rows, session)
    found["asked"] = asked(folder, rows, session, engine)
    found["diverged"] = diverged(folder, rows, session)
    found["class"] = type(engine.models.trained).__name__
    for case in ("gd+gru", "npo+none"):
        resumed(folder, rows, session, case)
        for source in (folder, *sources):
            key = f"continued {case} from {source.name}"
            found[key] = continued(folder, source, rows, session, case)
    return found


def gd_without(folder: Path, rows: Any, session: Session) -> Engine:
    CASES["gd+none"] = (CASES["gd+gru"][0], NoRectifier())
    return engine_for(folder, rows, session, "gd+none", "float32")


def take_part(find: Callable[[Path, Session], dict[str, Any]], engine: str = "ddp") -> NoReturn:
    """Is one rank of a crew: rank 0 leaves what was found in the folder that `argv` begins with."""
    folder, session = Path(sys.argv[1]), open_session(ENGINES[engine])
    found = find(folder, session)
    if session.ranks.main:
        torch.save(found, folder / "found.pt")
    os._exit(0)


if __name__ == "__main__":
    name, *others = sys.argv[2:]
    take_part(partial(everything, sources=[Path(p) for p in others]), name)
