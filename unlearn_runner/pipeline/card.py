"""Model card of an unlearned model: `README.md` beside its weights, as the hub shows it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from unlearn_runner.pipeline.job import PlannedJob
from unlearn_runner.report.compare import number
from unlearn_runner.report.tables import Column, Table, as_markdown, cell
from unlearn_runner.utils.files import leaves
from unlearn_runner.utils.text import format_score
from unlearn_runner.utils.untrusted import clean
from unlearn_runner.utils.version import __version__

FILE = "README.md"
SETTINGS = ("method", "rectifier", "adapter", "train", "target", "seed", "save_dtype")
LIMITS = (
    "That a score of forgetting is low says that these questions, asked so, are no longer answered "
    "as before. It does not say that the knowledge is gone: other words, another language, a few "
    "steps of fine-tuning or a coarser number format may bring it back.",
    "Scores are of this benchmark's rows and of one seed. An interval is of a bootstrap over the "
    "people that the rows are about: how far the score would move on other people of the kind.",
    "What else the model can do was not measured, and it keeps the limits, the biases and the "
    "licence of the model that it was made from.",
)
ADAPTER = (
    "These files are an adapter: they belong to the fine-tuned target of the run, which is not "
    "among them. adapter.merge=true leaves a whole model."
)


def card(job: PlannedJob, content: Mapping[str, Any], is_adapter: bool) -> str:
    """Returns the card of a run's unlearned model, as Markdown.

    Args:
        job: The run.
        content: What its `results.json` holds.
        is_adapter: Whether its files are an adapter alone.
    """
    run, splits, choices = job.run, job.plan.inputs.rowsets.splits, job.composed.choices
    parts = [choices.get("method", "?")]
    parts += [f"rectifier {choices.get('rectifier', '?')}"] * run.rectifier.acts
    parts += [f"adapter {choices.get('adapter', '?')}"] * run.adapter.adapts
    how = clean(", ".join(parts))
    views = ", ".join(f"{n} {len(rows)}" for n, (_, rows) in job.plan.inputs.rowsets.views.items())
    benchmark = clean(choices.get("benchmark", "?"))
    provenance = content["provenance"]
    origin = "; ".join(f"{k}: {v}" for k, v in provenance["given"].items())
    library = "peft" if is_adapter else "transformers"
    head = f"---\nlibrary_name: {library}\ntags: [unlearning, unlearn-runner]\n---\n"
    lines = [
        f"# {clean(job.folder.name)}",
        f"A language model that has unlearned a part of the benchmark `{benchmark}` by {how}.",
        "## Data",
        f"It was fine-tuned on {len(splits.full)} rows ({splits.full.name}), of which "
        f"{len(splits.forget)} were to be forgotten ({splits.forget.name}) and "
        f"{len(splits.retain)} to be kept ({splits.retain.name}). Evaluated rows: {views}. "
        f"Version {run.benchmark.version} of the benchmark."
        + (f" Given, not made: {clean(origin)}." if origin else ""),
        "## Scores",
        as_markdown(_scores(content)).strip(),
        "Intervals are of 95 %. The target is the model before; the retain model never learned "
        "what was forgotten.",
        "## Method and settings",
        as_markdown(_settings(job)).strip(),
        "## Limits",
        *(f"- {text}" for text in (*LIMITS, *[ADAPTER] * is_adapter)),
        "## Made by",
        f"unlearn-runner {__version__}, commit {provenance['commit'] or 'unknown'}:",
        f"    {clean(provenance['command'])}",
    ]
    return head + "\n\n".join(lines) + "\n"


def _scores(content: Mapping[str, Any]) -> Table:
    found: Mapping[str, float | None] = content["scores"]
    others = ("target", "retain_model")
    names = [name for name in found if not name.startswith(tuple(f"{o}." for o in others))]
    shown = [other for other in others if any(name.startswith(f"{other}.") for name in found)]
    columns = [Column(name, name) for name in ("score", "better")]
    columns += [Column(n, n.replace("_", " "), "number") for n in ("unlearned", "interval", *shown)]
    rows = []
    for name in names:
        ends = content["intervals"].get(name)
        row = [cell(name), cell(content["directions"].get(name)), cell(found[name], format_score)]
        row += [cell(" to ".join(map(format_score, ends)) if ends else None)]
        rows.append(row + [cell(found.get(f"{o}.{name}"), format_score) for o in shown])
    return Table("Scores", columns, rows)


def _settings(job: PlannedJob) -> Table:
    rows = [[cell(clean(key)), cell(clean(value))] for key, value in _chosen(job)]
    return Table("Settings", [Column(name, name) for name in ("setting", "value")], rows)


def _chosen(job: PlannedJob) -> Iterator[tuple[str, str]]:
    """Yields the settings that made the model, with their values."""
    for key, value in leaves(job.config):
        if key.partition(".")[0] in SETTINGS and key in job.identity:
            yield key, number(value)
