"""Question/answer benchmarks in TOFU's shape; a new one needs YAML alone.

Choosing the forget split decides retain and evaluated rows by itself: they are listed together
under `requests`, so they cannot disagree.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Literal

from annotated_types import Ge

from unlearn_runner.data.rows import Row, Rows
from unlearn_runner.data.sources import Source
from unlearn_runner.errors import ConfigError, DataError, listed, nearest
from unlearn_runner.evaluation.benchmarks.base import Benchmark, Splits, Turn
from unlearn_runner.evaluation.metrics.base import Metric
from unlearn_runner.evaluation.schema import Generation, View

REQUEST, HOLDOUT = "request", "holdout"
UNSEEN = View(HOLDOUT, goal="unseen", probes=("logprobs",))
Suite = Literal["default", "full"]
LOCUSLAB = {"limit": 300, "max_length": 200}  # sizes of the TOFU repository's own evaluation


@dataclass(frozen=True)
class Request:
    """Splits that belong to one choice of forget split."""

    retain: str
    view: str
    """The forget rows with their paraphrased and perturbed answers."""
    holdout: str | None = None
    """Rows like the forget rows that no model has seen, which membership attacks compare with."""
    of: str | None = None
    """Split that holds the forget rows; null is the one that is called as the request is."""
    people: tuple[Annotated[int, Ge(0)], ...] | None = None
    """Only the rows of these people, numbered from 0 as `full` has them; retain rows are then all
    others'. Null takes the whole split."""


def _text(row: Row) -> tuple[str, str]:
    return row.question, row.answer


def _reworded(rows: Rows, view: str) -> Rows:
    """Returns rows that ask their paraphrased questions."""
    for line, row in enumerate(rows, 1):
        if row.paraphrased_question is None:
            raise DataError(
                f"{rows.name} row {line} has no 'paraphrased_question' for the view {view} to ask",
                f"benchmark.view.{view}.asked=question, or a split whose rows have it",
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
    the holdout rows of the request, too, in a view of that name."""
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
    """Several of `requests`, asked one after another: each starts from the model that the last one
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
        from unlearn_runner.evaluation.metrics.suites import further

        more = further()
        return self.metric | {n: metric for n, metric in more.items() if n not in self.metric}

    @property
    def further_views(self) -> frozenset[str]:
        """The unseen rows, where the full suite scores them."""
        return frozenset({HOLDOUT} if self._scores_unseen() else ())

    @property
    def rows_together(self) -> int:
        """Rows of one person."""
        return self.rows_per_person or 1

    @property
    def _names(self) -> tuple[str, ...]:
        """What is asked, in order."""
        return self.in_turn or (self.forget,)

    def splits(self) -> Splits:
        """Reads the training rows and checks that forget and retain make up the full set."""
        full, (forget, retain) = self.source.read(self.full), self._both()
        retain = self._kept(retain, forget)
        if self.authors is not None:
            known = {_text(row) for row in (*retain, *forget)}
            full = Rows(full.name, tuple(row for row in full if _text(row) in known))
        rows = [(row.question, row.answer) for row in full]
        parts = [(row.question, row.answer) for row in (*retain, *forget)]
        if sorted(rows) != sorted(parts):
            raise DataError(
                f"{retain.name} and {forget.name} together are not the rows of {self.full}: "
                "the splits come from different versions of the data",
                "fetch the three files again from one revision",
            )
        replay = self._joined(self.replay)
        if known := {*map(_text, forget)} & {*map(_text, replay)}:
            raise ConfigError(
                f"benchmark.replay: {len(known)} of its rows are to be forgotten",
                "benchmark.replay=[]",
            )
        return Splits(
            Rows(full.name, (*full, *replay)),
            forget,
            Rows(retain.name, (*retain, *replay)),
            self._joined(self.pretrain),
            replayed=len(replay),
        )

    def _joined(self, names: tuple[str, ...]) -> Rows:
        return Rows("+".join(names), tuple(row for name in names for row in self.source.read(name)))

    def turns(self) -> tuple[Turn, ...]:
        """Reads the requests of `in_turn`."""
        if not self.in_turn:
            return ()
        whole, asked, found = self.splits(), set[tuple[str, str]](), list[Turn]()
        for name in self.in_turn:
            forget = self._forget(name)
            asked |= {_text(row) for row in forget}
            rest = tuple(row for row in whole.full if _text(row) not in asked)
            retain = Rows(f"{whole.full.name} after {name}", rest)
            found.append(Turn(name, replace(whole, forget=forget, retain=retain)))
        return tuple(found)

    def _both(self) -> tuple[Rows, Rows]:
        """Returns the rows of all requests together, and all others; whoever they are about."""
        names = self._names
        parts = [self._forget(name) for name in names]
        if len(names) == 1 and self.requests[names[0]].people is None:
            return parts[0], self.source.read(self.requests[names[0]].retain)
        forget = Rows("+".join(names), tuple(row for part in parts for row in part))
        asked = {_text(row) for row in forget}
        if len(asked) < len(forget):
            raise ConfigError(
                f"benchmark.in_turn=[{','.join(names)}]: two of these requests share rows",
                f"benchmark.in_turn=[{','.join(names[:-1])}]",
            )
        rest = (row for row in self.source.read(self.full) if _text(row) not in asked)
        return forget, Rows(f"{self.full} without {forget.name}", tuple(rest))

    def _forget(self, name: str) -> Rows:
        """Returns the forget rows of a request.

        Raises:
            ConfigError: If it names people whom its split does not have.
        """
        request = self.requests[name]
        rows = self.source.read(request.of or name)
        if request.people is None:
            return rows
        together = self.rows_together
        places = {_text(row): i // together for i, row in enumerate(self.source.read(self.full))}
        known = {places.get(_text(row)) for row in rows} - {None}
        if lacking := sorted({*request.people} - known):
            raise ConfigError(
                f"benchmark.requests.{name}.people: {rows.name} has no rows of {lacking[0]}; "
                f"allowed: {listed(sorted(map(str, known)))}",
                f"benchmark.requests.{name}.people=[{next(iter(known), 0)}]",
            )
        chosen = (row for row in rows if places.get(_text(row)) in request.people)
        return Rows(name, tuple(chosen))

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

    def _dropped(self) -> set[tuple[str, str]]:
        """Returns question and answer of the rows whose people `authors` leaves out."""
        if self.authors is None:
            return set()
        forget, retain = self._both()
        kept = self._kept(retain, forget)
        return {_text(row) for row in retain.items[len(kept) :]}

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
        unseen = {HOLDOUT: UNSEEN} if self._scores_unseen() else {}
        for name, view in (self.view | unseen).items():
            rows = self._view_rows(view.split)
            rows = Rows(rows.name, tuple(row for row in rows if _text(row) not in dropped))
            rows = rows.first(view.limit)
            if self.compat == "locuslab":
                rows = rows.first(LOCUSLAB["limit"])
            self._check(name, view, rows)
            found[name] = (view, _reworded(rows, name) if view.asked == "paraphrased" else rows)
        return found

    def _view_rows(self, split: str) -> Rows:
        """Returns the rows of a view's split, which may stand for those of the requests."""
        requests = [self.requests[name] for name in self._names]
        if split == REQUEST:
            parts = [self._evaluated(name) for name in self._names]
        else:
            held = dict.fromkeys(request.holdout for request in requests)
            names = [name for name in held if name] if split == HOLDOUT else []
            parts = [self.source.read(name) for name in names or [split]]
        if len(parts) == 1:
            return parts[0]
        return Rows("+".join(p.name for p in parts), tuple(row for part in parts for row in part))

    def _evaluated(self, name: str) -> Rows:
        """Returns the evaluated form of a request's rows.

        Raises:
            DataError: If some of them have none.
        """
        request = self.requests[name]
        rows = self.source.read(request.view)
        if request.people is None:
            return rows
        asked = {_text(row) for row in self._forget(name)}
        found = tuple(row for row in rows if _text(row) in asked)
        if len(found) != len(asked):
            raise DataError(
                f"{request.view} has {len(found)} of the {len(asked)} rows that {name} forgets",
                f"benchmark.requests.{name}.view names the split that has them all",
            )
        return Rows(name, found)

    def _scores_unseen(self) -> bool:
        held = any(self.requests[name].holdout is not None for name in self._names)
        return self.suite == "full" and held and HOLDOUT not in self.view

    def _check(self, name: str, view: View, rows: Rows) -> None:
        wants = [key for key, metric in self.metrics.items() if "perturbed" in metric.needs(view)]
        lacking = (line for line, row in enumerate(rows, 1) if not row.perturbed_answers)
        if wants and (line := next(lacking, None)):
            raise DataError(
                f"{rows.name} row {line} has no 'perturbed_answer' for {listed(wants)} to score",
                f"add it to every row, or leave the view out: ~benchmark.view.{name}",
            )
