"""Training loop: steps, checkpoints, telemetry, signals, and the end of what diverges."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from unlearn_runner.training import checkpoint
from unlearn_runner.training.batches import StepLoader
from unlearn_runner.training.divergence import Diverged
from unlearn_runner.training.engine import Engine
from unlearn_runner.utils import signals
from unlearn_runner.utils.progress import progress


@dataclass(frozen=True)
class TrainingLog:
    """Where a training loop writes its checkpoints and its telemetry."""

    checkpoints: Path
    """Folder of the checkpoints."""
    key: str
    """Key of the stage that trains, recorded in its checkpoints."""
    write: Callable[[dict[str, Any]], None]
    """Writes one line of telemetry."""


def train(
    engine: Engine,
    loader: StepLoader,
    title: str,
    log: TrainingLog,
    after_step: Callable[[int], bool] = lambda _: False,
    evaluated_after: Collection[int] = (),
) -> bool:
    """Trains to the last step, continuing from a checkpoint where one is found.

    Args:
        engine: Takes the steps.
        loader: Loads the rows of each step.
        title: Name of the stage in telemetry and progress.
        log: Where checkpoints and telemetry go.
        after_step: Called with the number of steps done after every step, and once more for the
            step of the checkpoint continued from; must not change the model, and bear repetition.
            Where it returns true, on all ranks, that step was the last.
        evaluated_after: Steps after which `after_step` evaluates the model.

    Returns:
        Whether a last step was reached; false when training diverged, of which the last line of
        telemetry is the evidence. A checkpoint never holds a model with weights not finite.

    Raises:
        Interrupted: If a signal was received; a checkpoint has been saved.
    """
    total = engine.recipe.num_steps(engine.num_rows)
    every, ranks = engine.recipe.checkpoint_every, engine.layout.ranks
    state = checkpoint.load(log.checkpoints, log.key, engine.device, ranks)
    first = engine.restore(state) if state else 0
    del state  # as large as the model and its optimizer together
    with progress(title, total) as tick:
        tick.resume(first)
        if first and after_step(first):
            return True
        for done in range(first + 1, total + 1):
            # Dropout, where a model has any, is drawn anew each step: the same step after a resume.
            torch.manual_seed(loader.sampler.step_seed(done, ranks.rank))
            engine.models.trained.train()
            started = time.perf_counter()
            rows = loader.step(done - 1)
            line: dict[str, Any] = {"stage": title, "step": done}
            try:
                facts = engine.step(rows)
                rate = rows.num_tokens / (time.perf_counter() - started)
                line |= {**facts, "tokens_per_s": round(rate, 1)}
                stop = engine.stop_requested or (ranks.world == 1 and bool(signals.requested()))
                save = stop or (every and done % every == 0 and done < total)
                if save or done == total or done in evaluated_after:
                    engine.check_finite(rows, line)
            except Diverged as found:
                log.write({**line, **found.line})
                return False
            log.write(line)
            if save:
                checkpoint.save(log.checkpoints, log.key, done, engine.state(done), ranks)
            if stop:
                # Some rank has received a signal: all raise the same one.
                raise signals.Interrupted(max(ranks.all_gather(signals.requested() or 0)))
            if after_step(done):
                log.write({**line, "stopped": True})
                return True
            note = " ".join(f"{k[5:]} {v:.3f}" for k, v in facts.items() if k[:5] == "loss/")
            tick(note=note, check_signals=False)  # a rank must not leave before the others know
    return True
