"""Worker: one rank of a run; rank 0 runs the job, the others follow it through its stages."""

from __future__ import annotations

import sys

from unlearn_runner.pipeline.job import ComposedJob
from unlearn_runner.pipeline.runner import serve


def main(text: str) -> int:
    """Runs the job that our launcher hands over; returns the exit code."""
    composed = ComposedJob.read(text)
    sys.argv = ["unlearn", *composed.arguments]
    serve(composed)
    return 0


if __name__ == "__main__":
    from unlearn_runner.utils.process import run_child

    run_child(main)
