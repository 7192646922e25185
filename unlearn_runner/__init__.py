"""unlearn-runner: Hydra-configured experiments in unlearning for language models."""

import importlib

from unlearn_runner.utils.version import __version__ as __version__

_API = ("UserError", "compose", "evidence", "load_runs", "plan", "run")


def __getattr__(name: str) -> object:
    """Hands on what `api` defines; importing the package alone loads nothing."""
    if name in _API:
        return getattr(importlib.import_module("unlearn_runner.api"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
