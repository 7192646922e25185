"""Journal: what a probe has computed so far, so that a killed evaluation goes on where it was.

A file per batch, written beside its name and then renamed: it is whole, or not there.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, Generic, TypeVar

import torch

T = TypeVar("T")


def _same(results: Any) -> Any:
    return results


@dataclass(frozen=True)
class Journal(Generic[T]):
    """Results of one probe over one view, by the index of their row, in a folder of their own."""

    folder: Path
    pack: Callable[[Sequence[T]], Any] = _same
    """From results to tensors, numbers and texts; and back."""
    unpack: Callable[[Any], Sequence[T]] = _same

    def read(self) -> dict[int, T]:
        """Returns what was written; a damaged file counts for nothing."""
        found: dict[int, T] = {}
        for path in sorted(self.folder.glob("*.pt")):
            try:
                indices, packed = torch.load(path, weights_only=True)
            except (OSError, RuntimeError, EOFError, ValueError, UnpicklingError):
                continue
            found |= zip(indices, self.unpack(packed), strict=True)
        return found

    def write(self, results: dict[int, T]) -> None:
        """Adds the results of a batch."""
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / f"{min(results)}.pt"
        partial = path.with_suffix(".partial")
        torch.save((list(results), self.pack(list(results.values()))), partial)
        os.replace(partial, path)


def journal_of(place: Path | None, view: str, probe: str, **packing: Any) -> Journal[Any] | None:
    """Returns the journal of a probe over a view below a folder; none without a folder."""
    return None if place is None else Journal(place / f"{view}.{probe}", **packing)
