"""Version of the runner."""

__version__ = "0.1.0"
