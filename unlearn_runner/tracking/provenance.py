"""Provenance: versions of packages and the commit of the code."""

from __future__ import annotations

import subprocess
from contextlib import suppress
from importlib import metadata
from pathlib import Path

VERSIONS = (
    *("torch", "transformers", "tokenizers", "accelerate", "peft", "hydra-core"),
    *("omegaconf", "numpy", "scipy", "torchjd", "pyarrow", "rouge-score", "unlearn-runner"),
)


def versions() -> dict[str, str]:
    """Returns the installed versions of what a result depends on."""
    installed = {}
    for name in VERSIONS:
        with suppress(metadata.PackageNotFoundError):
            installed[name] = metadata.version(name)
    return installed


def commit() -> str | None:
    """Returns the git commit of the runner's own checkout, marked when tracked files differ.

    None for an installed copy, whatever repository may lie around it.
    """
    package = Path(__file__).resolve().parents[1]

    def git(*arguments: str) -> str:
        # No program that the repository's own configuration names.
        words = ["git", "-C", str(package), "-c", "core.fsmonitor=false", *arguments]
        return subprocess.run(words, capture_output=True, text=True, check=True).stdout.strip()

    try:
        if git("ls-files", "--full-name", "run.py") != "unlearn_runner/run.py":
            return None
        changed = git("status", "--porcelain", "--untracked-files=no")
        return git("rev-parse", "HEAD") + ("+changes" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return None
