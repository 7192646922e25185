"""Artifact: what the store needs to know of a result to keep it."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Literal, Protocol

Outcome = Literal["completed", "diverged"]


class Artifact(Protocol):
    """One keyed result; a pipeline's stage is one."""

    kind: ClassVar[str]
    """Folder of the store, and the first part of the name."""
    given: ClassVar[bool]
    """Whether it exists without the runner, outside the store."""

    @property
    def key(self) -> str:
        """Hash of everything that determines it."""
        ...

    @property
    def label(self) -> str:
        """What a run calls it."""
        ...

    @property
    def inputs(self) -> tuple[Artifact, ...]:
        """The artifacts it was made from."""
        ...

    def outside(self) -> Path | None:
        """Returns the folder of a given artifact, or none when it is not there (yet)."""
        ...

    def reads(self) -> str:
        """Returns a short text of what it was made from."""
        ...
