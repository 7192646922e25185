"""Names of runs: readable, derived from the overrides, and the same for the same command."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from fnmatch import fnmatch
from functools import cache
from typing import Any

from unlearn_runner.config.checkpoint import PATH
from unlearn_runner.errors import ConfigError, shortened
from unlearn_runner.utils.files import leaves
from unlearn_runner.utils.redact import redacted

# What a run may change without becoming another experiment: where and how, not what.
INERT = (
    "name",
    "output_dir",
    "store",
    "plan_only",
    "estimate",
    "verify",
    "overwrite",
    "keep",
    "push_to_hub",
    "geffect*",
    "attack*",
    "calibrate*",
    "parallel*",
    "tracker*",
    "sweep*",
    "cluster*",
    "*micro_batch",
    "*checkpoint_every",
    "*gradient_checkpointing",
    "evaluate.batch_size",
    "benchmark.data_dir",
    "benchmark.source.data_dir",
    "benchmark.source.files*",
    "benchmark.rows_per_person",
    "hydra*",
)
LONGEST, MAX_BYTES = 120, 200
"""Bytes of a derived name, and of one that a user gives; file systems allow 255."""


def derive(
    overrides: Iterable[str], choices: Mapping[str, str | None], evaluated: str | None = None
) -> str:
    """Returns a name: benchmark, method, rectifier, an adapter; then what else was overridden.

    Where a checkpoint is evaluated, which one stands in the place of how it was unlearned.
    """
    main = ("benchmark", "method", "rectifier", "adapter")
    chosen = [str(choices.get(group)) for group in main]
    parts = ["-".join(chosen[: 3 if chosen[3] in ("none", "None") else 4])]
    if evaluated is not None:
        main, parts = (*main, PATH), [f"{chosen[0]}-{evaluated.strip('/')}"]
    for override in sorted(map(redacted, overrides)):
        key, _, value = override.lstrip("+~").partition("=")
        if key not in main and not inert(key):
            parts.append(f"{key}={value}")
    name = re.sub(r"[^\w.,=+-]+", "_", ",".join(parts))
    if len(name.encode()) > LONGEST:
        digest = hashlib.sha256(name.encode()).hexdigest()[:8]
        name = f"{name.encode()[: LONGEST - 9].decode(errors='ignore')}-{digest}"
    return name


def validate_name(name: str, key: str = "name") -> str:
    """Returns a user's name of a run or a sweep.

    Raises:
        ConfigError: If it cannot be a folder name.
    """
    if not re.fullmatch(r"\w[\w.,=+-]*", name) or len(name.encode()) > MAX_BYTES:
        plain = re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-.")[:LONGEST]
        raise ConfigError(
            f"{key}={shortened(repr(name))} cannot name a folder; allowed: letters, digits and "
            f". , = + - _, at most {MAX_BYTES} bytes",
            f"{key}={plain or 'my-run'}",
        )
    return name


@cache
def inert(key: str) -> bool:
    """Returns whether a dotted key leaves the experiment the same."""
    return any(fnmatch(key, pattern) for pattern in INERT)


def identity(config: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the flat settings that make a configuration this experiment and no other."""
    return {k: v for k, v in leaves(config) if not isinstance(v, Mapping) and not inert(k)}
