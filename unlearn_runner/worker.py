"""One rank of a run: rank 0 performs the job, the others follow it through its stages."""

from __future__ import annotations

import sys

from unlearn_runner.job import Job


def main(text: str) -> int:
    """Runs the job that our launcher hands over; returns the exit code."""
    job = Job.read(text)
    sys.argv = ["unlearn", *job.arguments]
    serve(job)
    return 0


def serve(job: Job) -> None:
    """Takes part in a job, as the rank that the environment names."""
    from unlearn_runner.config import validate
    from unlearn_runner.foreign import main_rank
    from unlearn_runner.perform import perform
    from unlearn_runner.pipeline import complete, follow
    from unlearn_runner.plan import plan
    from unlearn_runner.progress import be_silent
    from unlearn_runner.store import Store

    run = validate(job.config)
    stages, store = plan(run), Store(job.store, run.verify)
    speaks = main_rank()
    if not speaks:
        be_silent()
    from unlearn_runner.session import open_session

    session = open_session(run.parallel)
    # Rank 0's word: another might look at the store later, and see more.
    if session.ranks.announced(complete(stages, store)):
        session = None
    if speaks:
        perform(job, run, stages, session)
    elif session is not None:
        follow(stages, store, session)


if __name__ == "__main__":
    from unlearn_runner.owned import work

    work(main)
