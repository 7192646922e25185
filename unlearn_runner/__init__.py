"""unlearn-runner: Hydra-configured experiments in unlearning for language models."""

from typing import TYPE_CHECKING, Any

from unlearn_runner.utils.version import __version__

if TYPE_CHECKING:
    from unlearn_runner.api import UserError, compose, evidence, load_runs, plan, run

__all__ = ["UserError", "__version__", "compose", "evidence", "load_runs", "plan", "run"]


def __getattr__(name: str) -> Any:
    """Hands on what `api` defines; importing the package alone loads nothing."""
    if name in __all__:
        from unlearn_runner import api

        return getattr(api, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
