"""Provenance: versions of packages and the commit of the code."""

from __future__ import annotations

import subprocess
from contextlib import suppress
from importlib import metadata
from pathlib import Path

VERSIONS = (
    *("torch", "transformers", "tokenizers", "accelerate", "peft", "datasets", "hydra-core"),
    *("omegaconf", "numpy", "scipy", "pyarrow", "rouge-score", "unlearn-runner"),
)


def versions() -> dict[str, str]:
    """Returns the installed versions of what a result depends on."""
    installed = {}
    for name in VERSIONS:
        with suppress(metadata.PackageNotFoundError):
            installed[name] = metadata.version(name)
    return installed


def commit() -> str | None:
    """Returns the git commit of the code, marked when the tree differs from it."""
    root = Path(__file__).resolve().parents[2]
    git = ["git", "-C", str(root)]
    try:
        head = subprocess.run(
            [*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True
        )
        diff = subprocess.run([*git, "status", "--porcelain"], capture_output=True, text=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return head.stdout.strip() + ("+changes" if diff.stdout.strip() else "")
