"""Provenance: versions of packages and the commit of the code."""

from __future__ import annotations

import re
import subprocess
import sys
from contextlib import suppress
from importlib import metadata
from pathlib import Path

DRIVER = Path("/proc/driver/nvidia/version")
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


def device() -> dict[str, str | None]:
    """Returns the device that this process computed on, and its driver's version.

    Nothing where it computed nothing, so that torch is not loaded to say so.
    """
    torch = sys.modules.get("torch")
    if torch is None:
        return {"device": None, "driver": None}
    if not torch.cuda.is_initialized():
        return {"device": "cpu", "driver": None}
    found = None
    with suppress(OSError):
        text = DRIVER.read_text(encoding="utf-8", errors="replace")
        found = re.search(r"\b\d+\.\d+(?:\.\d+)?\b", text)
    name = str(torch.cuda.get_device_name(torch.cuda.current_device()))
    return {"device": name, "driver": found[0] if found else None}


def commit() -> str | None:
    """Returns the git commit of the runner's own checkout, marked when tracked files differ.

    None for an installed copy, whatever repository may lie around it.
    """
    package = Path(__file__).resolve().parents[1]
    try:
        if _git(package, "ls-files", "--full-name", "run.py") != "unlearn_runner/run.py":
            return None
        changed = _git(package, "status", "--porcelain", "--untracked-files=no")
        return _git(package, "rev-parse", "HEAD") + ("+changes" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return None


def repository() -> dict[str, str]:
    """Returns commit and remote of the git repository one stands in, as far as it has them.

    The remote is without the name and password that its address may hold.
    """
    found: dict[str, str] = {}
    queries = {"commit": ("rev-parse", "HEAD"), "remote": ("remote", "get-url", "origin")}
    for name, words in queries.items():
        with suppress(OSError, subprocess.CalledProcessError):
            found[name] = re.sub(r"//[^/@]*@", "//", _git(Path.cwd(), *words))
    return found


def _git(folder: Path, *arguments: str) -> str:
    # No program that the repository's own configuration names.
    words = ["git", "-C", str(folder), "-c", "core.fsmonitor=false", *arguments]
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout.strip()
