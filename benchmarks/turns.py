"""Steps of several engines in turns on the same rows: they share the machine's moods."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

from unlearn_runner.training.batches import StepLoader
from unlearn_runner.training.engine import Engine
from unlearn_runner.utils.console import console


@dataclass(frozen=True)
class Turns:
    """What a number of rounds took."""

    seconds: dict[str, list[float]]
    """By engine, of each round but the first, which warms up; of the processor, all threads."""
    rectified: int
    """Steps that were rectified, the first round's included."""

    def median(self, name: str) -> float:
        """Returns an engine's median seconds."""
        return statistics.median(self.seconds[name])

    def ratio(self, one: str, other: str) -> float:
        """Returns the median over rounds of one engine's seconds over another's."""
        pairs = zip(self.seconds[one], self.seconds[other], strict=True)
        return statistics.median(a / b for a, b in pairs)


def in_turns(
    engines: dict[str, Engine],
    loader: StepLoader,
    rounds: int,
    title: str,
    clock: Callable[[], float] = time.process_time,
) -> Turns:
    """Takes steps with each engine in turn, in alternating order, by a clock of seconds."""
    seconds: dict[str, list[float]] = {name: [] for name in engines}
    rectified = 0
    for number in range(rounds + 1):
        rows = loader.step(number)
        for name in engines if number % 2 else reversed(engines):
            engines[name].models.trained.train()
            started = clock()
            facts = engines[name].step(rows)
            spent = clock() - started
            rectified += bool(facts and facts.get("rectified"))
            if number:
                seconds[name].append(spent)
        console.print(f"{title}: round {number} of {rounds}", markup=False)
    return Turns(seconds, rectified)
