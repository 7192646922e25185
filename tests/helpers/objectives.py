"""Every method once, and all that training one on the tiny model takes; for tests of any kind."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch

from unlearn_runner.data.encode import Encoded, with_start
from unlearn_runner.distributed.layout import Layout
from unlearn_runner.evaluation.probes.logprobs import probe
from unlearn_runner.methods.altpo import AltPO
from unlearn_runner.methods.base import Method, Objective, Retain, needs_alternatives
from unlearn_runner.methods.ceu import CEU
from unlearn_runner.methods.dpo import DPO
from unlearn_runner.methods.ga import GA
from unlearn_runner.methods.idk import IDK
from unlearn_runner.methods.ihl import IHL
from unlearn_runner.methods.me import ME
from unlearn_runner.methods.npo import NPO
from unlearn_runner.methods.pdu import PDU
from unlearn_runner.methods.rmu import RMU
from unlearn_runner.methods.satimp import SatImp
from unlearn_runner.methods.simnpo import SimNPO
from unlearn_runner.methods.tnpo import TNPO, WTNPO
from unlearn_runner.methods.undial import UNDIAL
from unlearn_runner.methods.wga import WGA
from unlearn_runner.models.forward import Models
from unlearn_runner.rectifiers.base import Rectifier
from unlearn_runner.rectifiers.none import NoRectifier
from unlearn_runner.training.alternatives import AlternativeAnswers, ExtraSplits
from unlearn_runner.training.batches import StepLoader
from unlearn_runner.training.engine import Engine
from unlearn_runner.training.fixed_rows import audit_rows
from unlearn_runner.training.recipe import Recipe

NONE = Retain("none")

EVERY_METHOD: list[tuple[str, Objective]] = [
    ("ga", GA()),
    ("gd", GA(Retain("nll", 0.2))),
    ("gd, sequence sums", GA(Retain("nll", 0.2), "sequence_sum")),
    ("kl", GA(Retain("kl", 5.0))),
    ("kl, all positions", GA(Retain("kl", 5.0, "all"))),
    ("kl, all positions, sequence sums", GA(Retain("kl", 5.0, "all"), "sequence_sum")),
    ("ga + rr", GA(Retain("rr", 0.1))),
    ("wga", WGA(alpha=1.0)),
    ("npo", NPO(Retain("nll", 0.2), beta=0.5)),
    ("tnpo", TNPO()),
    ("wtnpo", WTNPO()),
    ("simnpo", SimNPO(weight=0.125)),
    ("idk", IDK(Retain("kl"))),
    ("idk, concatenated", IDK(concat=True)),
    ("idk, concatenated, sequence sums", IDK(concat=True, reduction="sequence_sum")),
    ("ap", IDK(Retain("ap"))),
    ("dpo", DPO()),
    ("altpo", AltPO()),
    ("rmu", RMU(Retain("rr"))),
    ("undial", UNDIAL()),
    ("ihl", IHL()),
    ("satimp", SatImp()),
    ("ceu", CEU()),
    ("pdu", PDU(Retain(weight=3.0), warmup=0.0)),
    ("me", ME()),
]
"""All that minimise terms, with weights at which neither side drowns the other."""

REFUSALS = (" no idea", " I do not know that", " ask another", " never heard of it, sorry")


@dataclass(frozen=True)
class Workbench:
    """Rows, start log-probabilities and models of `conftest.Tiny` in one precision."""

    tiny: Any
    dtype: Any

    def engine(
        self,
        method: Method,
        rectifier: Rectifier | None = None,
        models: Models | None = None,
        layout: Layout | None = None,
        **recipe: Any,
    ) -> Engine:
        """Returns a fresh engine, on copies of the tiny model unless models are given."""
        return Engine(
            models=models or Models(self.llama(), self.llama().eval(), nullcontext, seed=3),
            terms=method.terms(),
            recipe=Recipe(**{"lr": 1e-4, "batch_size": 32, "steps": 20, **recipe}),
            num_rows=len(self.tiny.forget),
            pad=self.tiny.pad,
            rectifier=rectifier or NoRectifier(),
            layout=layout or Layout(),
            method=method,
            audit_rows=audit_rows("retain", self.tiny.retain, 8, 3),
        )

    def step_loader(self, method: Method, batch_size: int = 32) -> StepLoader:
        """Returns a loader of all that the method's terms read."""
        loader = StepLoader("forget", self.forget, batch_size, 3, self.tiny.retain)
        terms = method.terms()
        forget = self.others(self.tiny.forget) if needs_alternatives(terms, "forget") else None
        retain = (
            self.others(self.tiny.retain, scored=False)
            if needs_alternatives(terms, "retain")
            else None
        )
        return replace(loader, add_splits=ExtraSplits(forget, retain, method.skip))

    def llama(self) -> Any:
        return self.tiny.llama(self.dtype)

    @cached_property
    def forget(self) -> list[Encoded]:
        """The forget rows with start log-probabilities."""
        return with_start(self.tiny.forget, self.start_logprobs(self.tiny.forget))

    def others(self, rows: list[Encoded], scored: bool = True) -> AlternativeAnswers:
        """Refusals for every row, scored under the start model unless no loss reads that."""
        every = [(row, choice) for row in range(len(rows)) for choice in range(len(REFUSALS))]
        encoded = [refused(self.tiny, rows[row], REFUSALS[choice]) for row, choice in every]
        start = dict(zip(every, self.start_logprobs(encoded), strict=True)) if scored else None
        return AlternativeAnswers(
            [REFUSALS] * len(rows), lambda row, text: refused(self.tiny, rows[row], text), start
        )

    def start_logprobs(self, rows: list[Encoded]) -> list[Any]:
        with torch.no_grad():
            found = probe(self.llama().eval(), rows, self.tiny.pad, 20, "start logprobs")
        return [row.logprob for row in found]


def refused(tiny: Any, row: Encoded, text: str) -> Encoded:
    """The row's question, answered by a refusal."""
    answer = tiny.tokenizer(text)["input_ids"]
    prompt = row.ids[: row.prompt_length]
    return Encoded((*prompt, *answer, tiny.tokenizer.eos_token_id), len(prompt))
