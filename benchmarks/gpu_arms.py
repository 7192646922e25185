"""Arms of the benchmark for GPUs: how each engine trains, and what is measured of it."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import bare
import torch
from memory import peak_bytes, state_bytes
from workload import METHODS, TEMPLATE

from unlearn_runner.commands.estimate.memory import LargestBatch, Setting, peak
from unlearn_runner.commands.estimate.sizes import Sizes
from unlearn_runner.data.encode import Encoded, encode_rows, with_start
from unlearn_runner.data.people import People
from unlearn_runner.distributed.fsdp2 import FSDP2
from unlearn_runner.distributed.single import Single
from unlearn_runner.evaluation.probes.generations import generate
from unlearn_runner.evaluation.probes.logprobs import probe
from unlearn_runner.evaluation.schema import Generation
from unlearn_runner.methods.base import Term
from unlearn_runner.methods.losses import NLL
from unlearn_runner.models.adapters.lora import LoRA
from unlearn_runner.models.adapters.none import NoAdapter
from unlearn_runner.models.forward import Models
from unlearn_runner.models.load import (
    for_training,
    load_tokenizer,
)
from unlearn_runner.models.shape import Shape
from unlearn_runner.pipeline.session import Session, open_session
from unlearn_runner.rectifiers.gru import GRU
from unlearn_runner.rectifiers.none import NoRectifier
from unlearn_runner.training.batches import StepLoader
from unlearn_runner.training.engine import Engine
from unlearn_runner.training.recipe import Recipe

ENGINES = {"single": Single, "fsdp2": FSDP2}
LR = 1e-5
"""The published rate of a 7 B model, at which bf16 weights hardly move."""


@dataclass(frozen=True)
class Size:
    """How much is measured."""

    shape: Shape
    vocab: int
    batch: int
    micro: int
    steps: int
    """Timed; two more warm up."""
    evaluated: int
    """Rows."""
    new_tokens: int


FULL = Size(Shape(2048, 8192, 16, 32), 32_000, 32, 8, 10, 512, 64)
TINY = Size(Shape(32, 64, 2, 2), 512, 8, 4, 2, 8, 4)


@dataclass(frozen=True)
class Arm:
    """One way to train."""

    name: str
    method: str = "GradDiff"
    gru: bool = False
    lora: bool = False
    attention: str = "sdpa"
    checkpointing: bool = False
    weights: str = "float32"
    """What the optimizer steps: float32 masters under bf16 arithmetic, or bf16 weights."""
    alone: bool = False
    """Whether the bare loop is measured beside it."""


BOTH = (
    Arm("fine-tune", "fine-tune", alone=True),
    Arm("GradDiff", alone=True),
    Arm("NPO", "NPO", alone=True),
    Arm("GradDiff with GRU", gru=True),
)
SINGLE = (
    *BOTH,
    Arm("GradDiff, eager attention", attention="eager"),
    Arm("GradDiff, flash attention 2", attention="flash_attention_2"),
    Arm("GradDiff, activation checkpointing", checkpointing=True),
    Arm("GradDiff on LoRA", lora=True),
    Arm("GradDiff on LoRA with GRU", gru=True, lora=True),
    Arm("NPO, bf16 weights", "NPO", weights="bf16"),
)
ARMS = {"single": SINGLE, "fsdp2": BOTH}


@dataclass
class Bench:
    """What the arms of one engine share: the opened device, rows, the model's folder."""

    engine: str
    size: Size
    folder: Path
    session: Session
    tokenizer: Any
    forget: list[Encoded]
    retain: list[Encoded]

    @staticmethod
    def open(engine: str, size: Size, folder: Path) -> Bench:
        """Opens the device of this process and reads what `prepare` left."""
        session = open_session(ENGINES[engine]())
        tokenizer, people = load_tokenizer(folder), People(people=200, questions=10)
        forget, retain = (
            encode_rows(tokenizer, TEMPLATE, people.read(name), 256)
            for name in ("forget10", "retain90")
        )
        model = session.frozen(folder, "bf16")
        started = with_start(forget, [s.logprob for s in probe(model, forget, 0, 32, "start")])
        return Bench(engine, size, folder, session, tokenizer, started, retain)

    def measured(self, arm: Arm) -> Iterator[tuple[str, list[float]]]:
        """Yields figures of one arm by name, each with its measurements."""
        session = replace(self.session, attention=arm.attention)
        recipe = Recipe(
            lr=LR, batch_size=self.size.batch, micro_batch=self.size.micro, precision="bf16"
        )
        adapter = LoRA(rank=8, alpha=16.0, dropout=0.0) if arm.lora else NoAdapter()
        model = session.trainable(
            self.folder,
            "bf16",
            lambda whole: adapter.attach(whole, 0),
            "bf16" if arm.lora else "float32",
        )
        model = for_training(model, arm.checkpointing)
        if arm.weights == "bf16":
            model = model.to(torch.bfloat16)
        before = [p.detach().clone() for p in model.parameters()] if arm.method == "NPO" else []
        chosen = METHODS[arm.method]
        terms = chosen.terms() if chosen else (Term("train", "train", NLL()),)
        trained = Engine(
            Models(model, None, partial(session.layout.autocast, "bf16"), 0),
            terms,
            recipe,
            len(self.forget),
            self.tokenizer.pad_token_id,
            GRU() if arm.gru else NoRectifier(),
            session.layout,
            chosen,
        )
        loader = self._loader(arm, recipe)
        yield "tokens a second", self._clocked(partial(_step, trained, loader), loader)
        yield "peak GB", [self._peak(partial(_step, trained, loader, 0), trained) / 1e9]
        yield "peak GB by estimate", [self._estimate(arm, loader, recipe).total / 1e9]
        if before and session.ranks.world == 1:
            moved = zip(before, model.parameters(), strict=True)
            square = sum(float(((b.double() - a.double()) ** 2).sum()) for a, b in moved)
            yield "distance moved", [math.sqrt(square)]
        del trained, model, before
        if arm.alone and self.session.ranks.world == 1:
            yield "bare loop, tokens a second", self._bare(arm, recipe)

    def _loader(self, arm: Arm, recipe: Recipe) -> StepLoader:
        if METHODS[arm.method] is None:
            return StepLoader("train", self.retain, recipe.batch_size, 0)
        return StepLoader("forget", self.forget, recipe.batch_size, 0, self.retain)

    def _clocked(self, step: Callable[[int], object], loader: StepLoader) -> list[float]:
        """Returns tokens a second of every timed step, of all ranks together."""
        found = []
        for number in range(2 + self.size.steps):
            self._wait()
            started = time.perf_counter()
            step(number)
            self._wait()
            found.append(loader.step(number).num_tokens / (time.perf_counter() - started))
        return found[2:]

    def _wait(self) -> None:
        if self.session.device.type == "cuda":
            torch.cuda.synchronize(self.session.device)

    def _peak(self, work: Callable[[], object], engine: Engine) -> int:
        """Returns the most bytes of tensors on this rank's device during a step."""
        if self.session.device.type != "cuda":
            return state_bytes(engine) + peak_bytes(work)
        torch.cuda.reset_peak_memory_stats(self.session.device)
        work()
        return torch.cuda.max_memory_allocated(self.session.device)

    def _estimate(self, arm: Arm, loader: StepLoader, recipe: Recipe) -> Any:
        sizes = Sizes.of_folder(self.folder)
        world, micro = self.session.ranks.world, self.size.micro
        cuts = max(1, self.size.batch // world // micro)
        rows = [len(row.ids) for row in (*self.forget, *self.retain)]
        scored = [len(row.ids) - row.prompt_length for row in (*self.forget, *self.retain)]
        setting = Setting(
            trained=sizes.adapted(8, True, True) if arm.lora else sizes.parameters,
            frozen=sizes.parameters if arm.lora else 0,
            frozen_bytes=2 if arm.lora else 4,
            precision="bf16",
            groups=1 + arm.gru,
            kept=int(arm.gru),
            passes=cuts if arm.gru or arm.method == "fine-tune" else 2 * cuts,
            shards=world if self.engine == "fsdp2" else 1,
            gathers=self.engine == "fsdp2",
            checkpointing=arm.checkpointing,
        )
        return peak(sizes, LargestBatch(micro, max(rows), micro * max(scored)), setting)

    def _bare(self, arm: Arm, recipe: Recipe) -> list[float]:
        model = self.session.trainable(self.folder, "bf16")
        loader, device = self._loader(arm, recipe), str(self.session.device)
        count = 2 + self.size.steps
        ready = bare.steps(loader, recipe, count, self.tokenizer.pad_token_id, device)
        stepped = bare.stepper(model, arm.method, recipe)

        def step(number: int) -> None:
            with self.session.layout.autocast("bf16"):
                stepped(ready[number])

        return self._clocked(step, loader)

    def evaluated(self) -> Iterator[tuple[str, list[float]]]:
        """Yields rows and generated tokens a second of evaluation."""
        model, rows = self.session.frozen(self.folder, "bf16"), self.retain[: self.size.evaluated]
        setting, pad = Generation(max_new_tokens=self.size.new_tokens), self.tokenizer.pad_token_id
        works: dict[str, tuple[int, Callable[[], object]]] = {
            "rows a second": (len(rows), lambda: probe(model, rows, pad, 64, "answers")),
            "generated tokens a second": (
                len(rows) * self.size.new_tokens,  # a random model ends no answer
                lambda: generate(model, self.tokenizer, rows, setting, (), 64, "generation"),
            ),
        }
        for name, (count, work) in works.items():
            rates = []
            for _ in range(3):
                self._wait()
                started = time.perf_counter()
                work()
                self._wait()
                rates.append(count / (time.perf_counter() - started))
            yield name, rates[1:]


def _step(engine: Engine, loader: StepLoader, number: int) -> None:
    """Takes one step of the runner's."""
    engine.step(loader.step(number))
