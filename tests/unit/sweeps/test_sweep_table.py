"""The table of a sweep: its jobs between what they began from and what they are compared with."""

from __future__ import annotations

from rich.console import Console

from unlearn_runner.sweeps.jobs import SweepJob
from unlearn_runner.sweeps.monitor import table

ANCHORS = {"target.model_utility": 0.9, "retain_model.model_utility": 0.8}


def lines(*rows: tuple[str, dict[str, float | None]]) -> list[list[str]]:
    """Cells of each line of the table of jobs, each given by its overrides and its scores."""
    jobs = [SweepJob(axes.split(), axes.split(), status="completed") for axes, _ in rows]
    found = [(job, {"scores": scores}) for job, (_, scores) in zip(jobs, rows, strict=True)]
    console = Console(width=200)
    with console.capture() as captured:
        console.print(table("sweep", found))
    text = (line for line in captured.get().splitlines() if line.startswith("│"))
    return [[cell.strip() for cell in line.strip("│").split("│")] for line in text]


def test_target_and_retain_model_stand_around_the_jobs_each_once() -> None:
    one = {"model_utility": 0.5, "forget.probability": 0.1, "forget_quality_ks": 0.3, **ANCHORS}
    other: dict[str, float | None] = {"model_utility": 0.6, "forget.probability": 0.2, **ANCHORS}
    assert lines(("method=ga seed=0", one), ("method=npo adapter=lora", other)) == [
        ["", "", "", "target", "0.9000", "-"],
        ["ga", "0", "", "completed", "0.5000", "0.1000"],
        ["npo", "", "lora", "completed", "0.6000", "0.2000"],
        ["", "", "", "retain_model", "0.8000", "-"],
    ]


def test_an_axis_with_one_value_stands_in_the_title() -> None:
    jobs = [SweepJob([], axes, status="completed") for axes in (["seed=0"], ["seed=1"])]
    for job in jobs:
        job.axes = ["method=npo", *job.overrides]
    console = Console(width=200)
    with console.capture() as captured:
        console.print(table("sweep", [(job, {"scores": {"model_utility": 0.5}}) for job in jobs]))
    title, same, _, heads, *_ = captured.get().splitlines()
    assert (title.strip(), same.strip()) == ("sweep", "method npo")
    assert "seed" in heads
    assert "method" not in heads


def test_jobs_of_different_targets_show_each_of_them() -> None:
    first = {"model_utility": 0.5, "target.model_utility": 0.9}
    second = {"model_utility": 0.5, "target.model_utility": 0.7}
    found = lines(("target.seed=0", first), ("target.seed=1", second))
    assert [line[1:] for line in found if line[1] == "target"] == [
        ["target", "0.9000"],
        ["target", "0.7000"],
    ]
