"""TensorBoard: event files in `<run folder>/tensorboard/`, written anew by every process."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from textwrap import indent
from typing import Annotated, Any

from annotated_types import Ge

from unlearn_runner.tracking.base import TABLE, Mirrored, Sink, Tracker, numbers, require, table
from unlearn_runner.utils.text import format_score


@dataclass(frozen=True)
class TensorBoard(Tracker):
    """Scalars `<stage>/<key>` in double precision, scores, the table and the configuration."""

    flush_secs: Annotated[int, Ge(1)] = 20
    """Seconds after which a line is on disk."""

    def __post_init__(self) -> None:
        require("tensorboard", "tensorboard")

    def open(self, run: Mirrored) -> Sink:
        """Replaces the event files of an earlier attempt, whose lines come again."""
        from torch.utils.tensorboard import SummaryWriter

        folder = run.folder / "tensorboard"
        for old in folder.glob("events.out.tfevents.*"):
            old.unlink()
        writer = SummaryWriter(str(folder), flush_secs=self.flush_secs)
        writer.add_text("config", _block(run.config))
        return TensorBoardSink(writer)


class TensorBoardSink(Sink):
    """Open event files."""

    def __init__(self, writer: Any) -> None:
        self.writer = writer

    def line(self, facts: Mapping[str, Any]) -> None:
        """Adds the line's numbers; one that was not finite has no point."""
        for key, value in numbers(facts).items():
            self._scalar(f"{facts['stage']}/{key}", value, facts["step"])

    def results(self, content: Mapping[str, Any]) -> None:
        """Adds the scores, as scalars and as a table."""
        for name, value in content["scores"].items():
            self._scalar(f"scores/{name}", value, 0)
        rows = [TABLE, ["---"] * len(TABLE), *table(content["scores"])]
        text = "\n".join(
            "| " + " | ".join(c if isinstance(c, str) else format_score(c) for c in row) + " |"
            for row in rows
        )
        self.writer.add_text("results", text)
        if "divergence" in content:
            self.writer.add_text("divergence", _block(content["divergence"]))
        self.writer.add_text("provenance", _block(content["provenance"]))

    def finish(self, status: str) -> None:
        """Closes the files."""
        self.writer.add_text("status", status)
        self.writer.close()

    def _scalar(self, tag: str, value: float | None, step: int) -> None:
        if value is not None:
            # The old form of a scalar keeps seven digits.
            self.writer.add_scalar(tag, float(value), step, new_style=True, double_precision=True)


def _block(content: Any) -> str:
    """Returns JSON as a block of code in Markdown."""
    return indent(json.dumps(content, indent=2, ensure_ascii=False), "    ")
