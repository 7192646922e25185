"""Pretrained models: a local folder, or a repository on the Hugging Face hub at a commit."""

from __future__ import annotations

from dataclasses import dataclass

from unlearn_runner.models.base import Model


@dataclass(frozen=True)
class Pretrained(Model):
    """A causal language model that exists already."""

    path: str | None = None
    """A local folder, or a hub id (`owner/name`); needed when something is fine-tuned from it. The
    hub is reached only for an id whose files are not in its cache (`HF_HOME`), and never under
    `HF_HUB_OFFLINE=1`."""
    revision: str | None = None
    """Commit, tag or branch of a hub id; null is its main branch as it is when planned."""
