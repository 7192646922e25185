"""Question/answer benchmarks in TOFU's shape; a new one needs YAML alone.

Choosing the forget split decides retain and evaluated rows by itself: they are listed together
under `requests`, so they cannot disagree.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Literal

from annotated_types import Ge

from unlearn_runner.data.rows import Rows
from unlearn_runner.data.sources import Source
from unlearn_runner.errors import ConfigError, DataError, listed, nearest
from unlearn_runner.evaluation.benchmarks.base import Benchmark, Splits, Turn
from unlearn_runner.evaluation.benchmarks.requests import HOLDOUT, Request, Requests
from unlearn_runner.evaluation.metrics.base import Metric
from unlearn_runner.evaluation.schema import Generation, Probe, View

UNSEEN = View(HOLDOUT, goal="unseen", probes=("logprobs",))
Suite = Literal["default", "full"]
LOCUSLAB = {"limit": 300, "max_length": 200}  # sizes of the TOFU repository's own evaluation


def _reworded(rows: Rows, view: str) -> Rows:
    """Returns rows that ask their paraphrased questions."""
    for line, row in enumerate(rows, 1):
        if row.paraphrased_question is None:
            raise DataError(
                f"{rows.name} row {line} has no 'paraphrased_question' for the view {view} to ask",
                f"benchmark.view.{view}.question=original, or a split whose rows have it",
            )
    return Rows(rows.name, tuple(replace(row, reworded=True) for row in rows))


@dataclass(frozen=True)
class QABenchmark(Benchmark):
    """Question/answer rows with paraphrased and perturbed answers (TOFU, pocket)."""

    source: Source
    forget: str
    requests: dict[str, Request]
    view: dict[str, View]
    metric: dict[str, Metric]
    suite: Suite = "default"
    """Which metrics: `metric`, or also those of `metrics.suites.further`, for which `full` scores
    the holdout rows of the request, too, in a view of that name; and those of further probes that
    views have (`metrics.suites.probed`)."""
    full: str = "full"
    pretrain: tuple[str, ...] = ()
    """Splits that a from-scratch model is pre-trained on."""
    replay: tuple[str, ...] = ()
    """Splits that are learned beside `full`, and retained: what a pretrained model would forget as
    it learns people. Views that ask the same rows then ask what was learned."""
    compat: Literal["open-unlearning", "locuslab"] = "open-unlearning"
    """Whose evaluation sizes: all rows and 200 new tokens, or the first 300 rows and 200 tokens
    with the prompt."""
    data_dir: str | None = None
    """Folder of upstream files for the source; shorthand for `source.data_dir`."""
    refusals_file: str | None = None
    """Plain text, one refusal a line, for methods that train on refusals; a relative name is looked
    for in `data_dir` first (TOFU's is idontknow.jsonl). Null is the runner's own list."""

    rows_per_person: Annotated[int, Ge(1)] | None = None
    """Rows of `full`, one after another, that are about one person (TOFU's author); null where
    each row stands by itself. A selection of a sweep never divides them."""
    in_turn: tuple[str, ...] = ()
    """Several of `requests`, one after another: each starts from the model that the last one
    left. Together they take the place of `forget`."""
    authors: Annotated[int, Ge(2)] | None = None
    """Keep so many of the people: those of the forget split, and the first of the others. Rows that
    are learned, forgotten, retained and evaluated are then theirs alone; null keeps all."""

    def __post_init__(self) -> None:
        if not self.view:
            raise ConfigError(
                "benchmark.view is empty: nothing would be evaluated",
                "benchmark=pocket has four views; leave one out with ~benchmark.view.NAME",
            )
        if not self.requests:
            raise ConfigError(
                "benchmark.requests is empty: no rows could be forgotten",
                "benchmark.requests.NAME={retain: SPLIT, view: SPLIT} for each forget split",
            )
        for key, name in (("forget", self.forget), *(("in_turn", name) for name in self.in_turn)):
            if name not in self.requests:
                close = nearest(name, self.requests) or next(iter(self.requests))
                raise ConfigError(
                    f"benchmark.{key}={name} is not a forget split of this benchmark; "
                    f"allowed: {listed(self.requests)}",
                    f"benchmark.{key}={close if key == 'forget' else f'[{close}]'}",
                )
        if len(set(self.in_turn)) < len(self.in_turn):
            raise ConfigError(
                "benchmark.in_turn asks for the same request twice",
                f"benchmark.in_turn=[{','.join(dict.fromkeys(self.in_turn))}]",
            )
        if self.data_dir is not None:
            object.__setattr__(self, "source", self.source.in_folder(self.data_dir))

    @property
    def generation(self) -> Generation:
        """Settings of the generation probe, after `compat`."""
        if self.compat == "locuslab":
            return replace(self.generate, max_length=LOCUSLAB["max_length"])
        return self.generate

    @property
    def metrics(self) -> dict[str, Metric]:
        """Metrics by name."""
        if self.suite == "default":
            return self.metric
        from unlearn_runner.evaluation.metrics.suites import further, probed

        more = further() | probed(probe for view in self.view.values() for probe in view.probes)
        return self.metric | {n: metric for n, metric in more.items() if n not in self.metric}

    @property
    def further_views(self) -> frozenset[str]:
        """The unseen rows, where the full suite scores them."""
        return frozenset({HOLDOUT} if self._scores_unseen() else ())

    @property
    def sees(self) -> bool:
        """Whether its source's rows are about pictures."""
        return self.source.sees

    @property
    def rows_together(self) -> int:
        """Rows of one person."""
        return self.rows_per_person or 1

    @property
    def _names(self) -> tuple[str, ...]:
        """Names of the requests, in order."""
        return self.in_turn or (self.forget,)

    @property
    def _requests(self) -> Requests:
        return Requests(self.source, self.full, self.requests, self.rows_together)

    def splits(self) -> Splits:
        """Reads the training rows and checks that forget and retain make up the full set."""
        full, (forget, retain) = self.source.read(self.full), self._requests.both(self._names)
        retain = self._kept(retain, forget)
        if self.authors is not None:
            known = {row.identity for row in (*retain, *forget)}
            full = Rows(full.name, tuple(row for row in full if row.identity in known))
        rows = [row.identity for row in full]
        parts = [row.identity for row in (*retain, *forget)]
        if sorted(rows) != sorted(parts):
            raise DataError(
                f"{retain.name} and {forget.name} together are not the rows of {self.full}: "
                "the splits come from different versions of the data",
                "fetch the three files again from one revision",
            )
        replay, pretrain = (
            Rows.joined("+".join(names), map(self.source.read, names))
            for names in (self.replay, self.pretrain)
        )
        if known := {row.identity for row in forget} & {row.identity for row in replay}:
            raise ConfigError(
                f"benchmark.replay: {len(known)} of its rows are to be forgotten",
                "benchmark.replay=[]",
            )
        return Splits(
            Rows(full.name, (*full, *replay)),
            forget,
            Rows(retain.name, (*retain, *replay)),
            pretrain,
            replayed=len(replay),
        )

    def turns(self) -> tuple[Turn, ...]:
        """Reads the requests of `in_turn`."""
        return self._requests.turns(self.in_turn, self.splits()) if self.in_turn else ()

    def _kept(self, retain: Rows, forget: Rows) -> Rows:
        """Returns the retain rows of the people that `authors` keeps."""
        if self.authors is None:
            return retain
        together, given = self.rows_per_person, f"benchmark.authors={self.authors}"
        if together is None:
            raise ConfigError(
                f"{given}: benchmark.rows_per_person does not say which rows are one person's",
                "benchmark.authors=null, or benchmark.rows_per_person=20 (as TOFU's)",
            )
        fewest, most = -(-len(forget) // together) + 1, (len(retain) + len(forget)) // together
        if not fewest <= self.authors <= most:
            raise ConfigError(
                f"{given} is not allowed; allowed: {fewest} to {most} "
                f"(benchmark.forget={self.forget} forgets {fewest - 1} of {most})",
                f"benchmark.authors={min(max(fewest, self.authors), most)}",
            )
        return retain.first(self.authors * together - len(forget))

    def _dropped(self) -> set[tuple[str, ...]]:
        """Returns question and answer of the rows whose people `authors` leaves out."""
        if self.authors is None:
            return set()
        forget, retain = self._requests.both(self._names)
        kept = self._kept(retain, forget)
        return {row.identity for row in retain.items[len(kept) :]}

    def refusals(self) -> tuple[str, ...]:
        """Reads `refusals_file`, or returns the runner's own list."""
        if self.refusals_file is None:
            return super().refusals()
        from unlearn_runner.data.refusals import read

        path = Path(self.refusals_file).expanduser()
        beside = Path(self.data_dir or ".").expanduser() / path
        return read(beside if beside.is_file() else path, "benchmark.refusals_file")

    def views(self) -> dict[str, tuple[View, Rows]]:
        """Reads the rows each view scores.

        Raises:
            DataError: If a row lacks an answer that a metric needs.
        """
        found, dropped = {}, self._dropped()
        unseen = {HOLDOUT: self._unseen()} if self._scores_unseen() else {}
        for name, view in (self.view | unseen).items():
            rows = self._requests.view_rows(view.split, self._names)
            rows = Rows(rows.name, tuple(row for row in rows if row.identity not in dropped))
            rows = rows.first(view.limit)
            if self.compat == "locuslab":
                rows = rows.first(LOCUSLAB["limit"])
            self._check(name, view, rows)
            found[name] = (view, _reworded(rows, name) if view.question == "paraphrased" else rows)
        return found

    def _scores_unseen(self) -> bool:
        held = any(self.requests[name].holdout is not None for name in self._names)
        return self.suite == "full" and held and HOLDOUT not in self.view

    def _unseen(self) -> View:
        """Returns the view of the unseen rows: what is attacked by gradients has theirs, too."""
        forget = (view.probes for view in self.view.values() if view.goal == "forget")
        more: tuple[Probe, ...] = ("gradients",) if any("gradients" in p for p in forget) else ()
        return replace(UNSEEN, probes=UNSEEN.probes + more)

    def _check(self, name: str, view: View, rows: Rows) -> None:
        wants = [key for key, metric in self.metrics.items() if "perturbed" in metric.needs(view)]
        lacking = (line for line, row in enumerate(rows, 1) if not row.perturbed_answers)
        if wants and (line := next(lacking, None)):
            raise DataError(
                f"{rows.name} row {line} has no 'perturbed_answer' for {listed(wants)} to score",
                f"add it to every row, or leave the view out: ~benchmark.view.{name}",
            )
