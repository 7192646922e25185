"""unlearn-runner: Hydra-configured experiments in unlearning for language models."""

__version__ = "0.1.0"
