"""Commands that evaluate one checkpoint: `evaluate.path` is given, and nothing is trained."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Sequence

from unlearn_runner.errors import ConfigError, shortened

PATH = "evaluate.path"
TRAINING = (
    *("method", "rectifier", "adapter", "train", "target", "seed", "keep", "save_dtype"),
    *("evaluate.every", "geffect", "attack", "calibrate", "sweep", "estimate"),
)
"""Settings, and groups of settings, that say nothing of an evaluation."""
READ = ("target.train.max_length",)
"""Which of those an evaluation reads all the same."""
CHOICES = ("method", "rectifier", "adapter")
"""Groups without which nothing is unlearned."""


def is_of_training(key: str) -> bool:
    """Returns whether a dotted key or a group is of training alone."""
    within = (key == name or re.match(rf"{re.escape(name)}[.@/]", key) for name in TRAINING)
    return key not in READ and any(within)


def refuse_training(overrides: Sequence[str]) -> None:
    """Refuses settings of training where a checkpoint is evaluated.

    Raises:
        ConfigError: For the first of them.
    """
    if not evaluates(overrides):
        return
    kept = [o for o in overrides if not is_of_training(o.lstrip("+~").partition("=")[0])]
    wrong = next((o for o in overrides if o not in kept), None)
    if wrong is not None:
        raise ConfigError(
            f"{shortened(wrong)} has no part in evaluating a checkpoint, which trains nothing; "
            "allowed: benchmark, model, retain_model, evaluate, parallel, tracker, cluster, name",
            shlex.join(["unlearn", *kept]),
        )


def evaluates(overrides: Iterable[str]) -> bool:
    """Returns whether a command evaluates a checkpoint."""
    chosen = [o.partition("=")[2] for o in overrides if o.lstrip("+").partition("=")[0] == PATH]
    return bool(chosen) and chosen[-1] != "null"
