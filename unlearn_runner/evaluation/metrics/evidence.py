"""Evidence read back: what is known of one model, view by view, without torch.

It comes from what the probes wrote (`Evidence.load`) or from another project's log
(`evaluation.logs`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from unlearn_runner.evaluation.files import (
    AnswerTokens,
    Choices,
    read_choices,
    read_evidence,
    read_gradients,
    read_patched,
    read_samples,
    read_tokens,
)
from unlearn_runner.evaluation.schema import PROBES, Goal, Norm, Probe, Role, Scale, View

# numpy is imported where it computes: a mistake in a command is answered without it.
if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
else:
    Floats = object


CLEAN = "Q_A_gibberish"
"""open-unlearning's name of the probability that a text is clean."""


@dataclass(frozen=True)
class Texts:
    """Question, generated answer and expected answer, row by row."""

    questions: Sequence[str]
    """As recorded: the bare question, or the whole prompt around it."""
    generations: Sequence[str]
    answers: Sequence[str]


class Continuation(NamedTuple):
    """Token ids that a model wrote behind a prefix, and those that follow it in the row."""

    generated: Sequence[int]
    expected: Sequence[int]


@dataclass(frozen=True)
class Record:
    """Record of one model on one view."""

    losses: Mapping[str, Sequence[Sequence[float]]] = field(default_factory=dict)
    """Mean token NLLs, in nats, of each row's answers by role; a role may be missing."""
    probabilities: Mapping[str, Sequence[Sequence[float]]] = field(default_factory=dict)
    """The same answers' probabilities where the source recorded its own rounding of them."""
    texts: Texts | None = None
    """Question, generation and answer; none where the source kept no texts."""
    recalls: Sequence[float] | None = None
    """ROUGE-L recalls that the source recorded, for want of texts to compute them from."""
    tokens: AnswerTokens | None = None
    """Statistics of the plain answers' tokens; none where the source kept none."""
    recorded: Mapping[str, Sequence[float]] = field(default_factory=dict)
    """Further statistics by row that the source recorded, for want of tokens to compute them from,
    under open-unlearning's names; NaN for a row without."""
    choices: Sequence[Choices] | None = None
    """Scored choices of each row; none where there are none."""

    continuations: Sequence[Sequence[Continuation]] | None = None
    """Per row, what the model wrote behind each prefix, the shortest first."""

    samples: Sequence[Sequence[str]] | None = None
    """Sampled answers of each row; none where none were drawn."""

    gradients: Mapping[Norm, Sequence[float]] = field(default_factory=dict)
    """Mean over the model's tensors of a norm of the gradient of each row's loss, by norm."""

    patched: Sequence[Sequence[float]] | None = None
    """Mean log-probability of each row's fact in the target: its own, then with this model's states
    behind each block; none where that was not probed."""

    def at(self, places: Sequence[int]) -> Record:
        """Returns the record of some of its rows."""

        def chosen(column: Sequence[Any] | None) -> Any:
            return None if column is None else [column[place] for place in places]

        texts, tokens = self.texts, self.tokens
        if texts is not None:
            texts = Texts(*map(chosen, (texts.questions, texts.generations, texts.answers)))
        return Record(
            {role: chosen(by_row) for role, by_row in self.losses.items()},
            {role: chosen(by_row) for role, by_row in self.probabilities.items()},
            texts,
            chosen(self.recalls),
            None if tokens is None else AnswerTokens(*map(chosen, tokens)),
            {name: chosen(values) for name, values in self.recorded.items()},
            chosen(self.choices),
            chosen(self.continuations),
            chosen(self.samples),
            {norm: chosen(values) for norm, values in self.gradients.items()},
            chosen(self.patched),
        )


def read_record(folder: Path, view: str, probes: Sequence[Probe] = PROBES) -> Record:
    """Returns the record that this project's probes left in a folder, one view of it."""
    scored = "logprobs" in probes
    return Record(
        _losses(folder, view) if scored else {},
        texts=read_texts(folder, view) if "generations" in probes else None,
        tokens=read_tokens(folder, view) if scored else None,
        recorded=_clean(folder, view) if "clean" in probes else {},
        choices=read_choices(folder, view) if "choices" in probes else None,
        continuations=_continuations(folder, view) if "prefixes" in probes else None,
        samples=read_samples(folder, view) if "samples" in probes else None,
        gradients=read_gradients(folder, view) if "gradients" in probes else {},
        patched=read_patched(folder, view) if "patched" in probes else None,
    )


def read_texts(folder: Path, view: str) -> Texts:
    """Returns question, generation and answer of each row."""
    names = ("question", "generation", "answer")
    table = read_evidence(folder, view, "generations", ("row", *names)).sort_by("row")
    return Texts(*(table[name].to_pylist() for name in names))


def _clean(folder: Path, view: str) -> dict[str, list[float]]:
    table = read_evidence(folder, view, "clean", ("row", "clean")).sort_by("row")
    return {CLEAN: table["clean"].to_pylist()}


def _continuations(folder: Path, view: str) -> list[list[Continuation]]:
    names = ("row", "prefix", "generated", "expected")
    table = read_evidence(folder, view, "prefixes", names)
    table = table.sort_by([("row", "ascending"), ("prefix", "ascending")])
    found: dict[int, list[Continuation]] = {}
    columns = (table[name].to_pylist() for name in ("row", "generated", "expected"))
    for row, generated, expected in zip(*columns, strict=True):
        found.setdefault(row, []).append(Continuation(generated, expected))
    return list(found.values())


def _losses(folder: Path, view: str) -> dict[str, list[list[float]]]:
    import numpy as np

    names = ("row", "role", "answer_index", "logprob")
    table = read_evidence(folder, view, "logprobs", names)
    table = table.sort_by([("row", "ascending"), ("answer_index", "ascending")])
    losses: dict[str, list[list[float]]] = {}
    columns = (table[name].to_pylist() for name in ("row", "role", "logprob"))
    for row, role, logprob in zip(*columns, strict=True):
        if not 0 <= row < len(table):  # or a damaged file could name row 10**9
            raise ValueError(f"row {row} of {len(table)} answers")
        by_row = losses.setdefault(role, [])
        while len(by_row) <= row:
            by_row.append([])
        by_row[row].append(-float(np.mean(np.asarray(logprob, dtype=np.float64))))
    return losses


@dataclass(frozen=True)
class ViewEvidence:
    """Evidence of one model on one view."""

    name: str
    goal: Goal
    probability: Scale
    record: Record
    right: Role | None = None
    """The role that truth ratios compare wrong answers with; none: the paraphrased answer where
    one was scored, else the plain one."""
    keys: tuple[int, ...] | None = None
    """Which row of the view each recorded row is, -1 for one that the view does not have; none:
    the rows are the view's, in order."""

    def has(self, *roles: Role) -> bool:
        """Returns whether answers of all these roles were scored."""
        return all(role in self.record.losses for role in roles)

    def loss(self, role: Role) -> Floats:
        """Returns the mean token NLL, in nats, of each row's only answer of `role`; [rows]."""
        import numpy as np

        return np.array([answers[0] for answers in self.record.losses[role]])

    def losses(self, role: Role) -> list[Floats]:
        """Returns the mean token NLLs of each row's answers of `role`, rows of any length."""
        import numpy as np

        return [np.array(answers) for answers in self.record.losses[role]]

    def probabilities(self, role: Role) -> list[Floats]:
        """Returns P of each row's answers of `role`: as recorded, else exp(-L)."""
        import numpy as np

        if role in self.record.probabilities:
            return [np.array(answers) for answers in self.record.probabilities[role]]
        return [np.exp(-answers) for answers in self.losses(role)]

    def recorded(self, name: str) -> Floats | None:
        """Returns a statistic of each row as the source recorded it, or none; [rows]."""
        import numpy as np

        values = self.record.recorded.get(name)
        return None if values is None else np.array(values, float)

    @property
    def right_role(self) -> Role:
        """The role of the right answer in truth ratios."""
        return self.right or ("paraphrased" if self.has("paraphrased") else "answer")

    def shared(self, other: ViewEvidence) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Returns the places, here and in `other`, of the rows that both recorded."""
        import numpy as np

        mine, theirs = self._places(), other._places()
        both = [key for key in mine if key in theirs]
        return np.array([mine[k] for k in both], int), np.array([theirs[k] for k in both], int)

    @property
    def rows(self) -> int:
        """Number of recorded rows."""
        record = self.record
        if record.losses:
            return max(map(len, record.losses.values()))
        if record.texts is not None:
            return len(record.texts.answers)
        further = (record.recalls or (), record.choices or (), record.patched or ())
        by_name = (*record.recorded.values(), *record.gradients.values())
        return max(map(len, (*further, *by_name)))

    def _places(self) -> dict[int, int]:
        keys = range(self.rows) if self.keys is None else self.keys
        return {key: place for place, key in enumerate(keys) if key >= 0}

    def within(self, other: ViewEvidence) -> ViewEvidence:
        """Returns this evidence of the rows that `other` has, too."""
        keys = range(self.rows) if self.keys is None else self.keys
        _, mine = other.shared(self)
        if len(mine) == self.rows:
            return self
        return replace(
            self, record=self.record.at(mine.tolist()), keys=tuple(keys[i] for i in mine)
        )

    def keyed(self, keys: Sequence[int]) -> ViewEvidence:
        """Returns this evidence with its rows known by `keys`; see there."""
        return replace(self, keys=tuple(keys))


@dataclass(frozen=True)
class Evidence:
    """Evidence of one model over all views of a benchmark."""

    views: dict[str, ViewEvidence]

    def within(self, other: Evidence) -> Evidence:
        """Returns this evidence of the rows that `other` has, too, view by view."""
        views = self.views.items()
        return Evidence({n: v.within(other.views[n]) for n, v in views if n in other.views})

    @staticmethod
    def load(folder: Path, views: Mapping[str, View]) -> Evidence:
        """Returns what an evaluation left in `folder`.

        Args:
            folder: Holds the files that `schema.evidence_file` names.
            views: The benchmark's views by name.
        """
        records = {name: read_record(folder, name, view.probes) for name, view in views.items()}
        return Evidence(
            {
                name: ViewEvidence(name, view.goal, view.probability, records[name])
                for name, view in views.items()
            }
        )
