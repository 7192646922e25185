"""Multiple choice: own evidence, and lm-evaluation-harness's summary as open-unlearning has it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from unlearn_runner.errors import DataError
from unlearn_runner.evaluation.logs.base import Log
from unlearn_runner.evaluation.logs.columns import column
from unlearn_runner.evaluation.metrics.accuracy import Accuracy
from unlearn_runner.evaluation.metrics.base import Metric, compute
from unlearn_runner.evaluation.metrics.evidence import Evidence, Record, read_record
from unlearn_runner.evaluation.metrics.truth_ratio import Mean
from unlearn_runner.evaluation.schema import View, evidence_file

END = evidence_file("", "choices")
HAZARDS = "wmdp_"
"""What the names of WMDP's views begin with: knowledge to be forgotten."""
METRICS = {"acc": Accuracy(), "acc_norm": Accuracy("character")}
"""By the harness's names."""


def lm_eval_summary(model: Evidence) -> dict[str, Any]:
    """Returns the content of an LMEval_SUMMARY.json: {"<task>/<metric>": value}."""
    found = compute(model, None, METRICS)
    return {name.replace(".", "/"): value for name, value in found.items()}


@dataclass(frozen=True)
class ChoiceArtifact(Log):
    """Own evaluation of choices: the folder of an `evaluate` artifact with nothing else in it."""

    format: ClassVar[str] = "unlearn-runner"
    benchmark: ClassVar[str] = "LMEval"
    has_texts: ClassVar[bool] = False

    @classmethod
    def recognises(cls, content: Any) -> bool:
        """Returns whether all evidence in a folder is of choices."""
        files = [name for name in content if name.endswith(".parquet")]
        return bool(files) and all(name.endswith(END) for name in files)

    @property
    def views(self) -> Mapping[str, View]:
        """By the files' names."""
        names = sorted(name.removesuffix(END) for name in self.content if name.endswith(END))
        return {
            n: View(n, "forget" if n.startswith(HAZARDS) else "keep", probes=("choices",))
            for n in names
        }

    def metrics(self, mean: Mean) -> dict[str, Metric]:
        """Returns accuracy."""
        return {"accuracy": Accuracy()}

    def further(self) -> dict[str, Metric]:
        """Returns accuracy per character."""
        return {"accuracy_norm": Accuracy("character")}

    def record(self, view: str) -> Record:
        """Returns the choices of one view."""
        try:
            return read_record(self.path, view, ("choices",))
        except (OSError, KeyError, ValueError, TypeError) as error:  # pyarrow's are among these
            reason = " ".join(str(error).split())[:200]
            raise DataError(
                f"{self.path}: the evidence of '{view}' cannot be read: {reason}",
                "the command that made it makes it again",
            ) from error


@dataclass(frozen=True)
class LMEval(Log):
    """One `LMEval_SUMMARY.json`: {"<task>/<metric>": value}, as open-unlearning lifts it."""

    format: ClassVar[str] = "lm-evaluation-harness summary"
    benchmark: ClassVar[str] = "LMEval"
    has_texts: ClassVar[bool] = False

    @classmethod
    def recognises(cls, content: Any) -> bool:
        """Returns whether every key is a task and a metric."""
        return bool(content) and all(
            "/" in key and not isinstance(value, (dict, list)) for key, value in content.items()
        )

    @property
    def views(self) -> Mapping[str, View]:
        """None: there are no rows."""
        return {}

    def scores(self) -> dict[str, float | None]:
        """Returns the values by `<task>.<metric>`."""
        names = {key: key.replace("/", ".") for key in self.content}
        values = column(self.path, "values", list(self.content.values())).known()
        return dict(zip(names.values(), values, strict=True))

    def metrics(self, mean: Mean) -> dict[str, Metric]:
        """Returns none."""
        return {}

    def further(self) -> dict[str, Metric]:
        """Returns none."""
        return {}

    def record(self, view: str) -> Record:
        """Returns an empty one."""
        return Record()
