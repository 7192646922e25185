"""The typed root of a run's configuration: what `conf/config.yaml` must hold, and nothing else.

`Run` is built once in a plain process, frozen, and handed down; no later code reads a raw mapping.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from annotated_types import Ge, Le

from unlearn_runner.config import names
from unlearn_runner.config.build import TRUSTED, build, complete
from unlearn_runner.config.calibration import Calibration
from unlearn_runner.config.geffect import GEffect
from unlearn_runner.config.model import Model
from unlearn_runner.config.sweep import Sweep
from unlearn_runner.distributed.base import Parallel
from unlearn_runner.distributed.clusters.base import Cluster
from unlearn_runner.distributed.clusters.in_process import InProcess
from unlearn_runner.errors import ConfigError
from unlearn_runner.evaluation.attacks.base import Attack, NoAttack
from unlearn_runner.evaluation.benchmarks.base import Benchmark
from unlearn_runner.methods.base import Method
from unlearn_runner.models.adapters.base import Adapter
from unlearn_runner.models.adapters.none import NoAdapter
from unlearn_runner.rectifiers.base import Rectifier
from unlearn_runner.tracking.base import Tracker
from unlearn_runner.training.recipe import Recipe
from unlearn_runner.utils.console import console
from unlearn_runner.utils.files import leaves

Seed = Annotated[int, Ge(0), Le(2**32 - 1)]
MAX_SCORED = 10_000
"""Models that are scored along the way."""
REPOSITORY = re.compile(r"[\w-][\w.-]{0,95}/[\w-][\w.-]{0,95}", re.ASCII)
EPOCHS = re.compile(r"(\d+(?:\.\d+)?|\.\d+)\s*epochs?")


@dataclass(frozen=True)
class Target:
    """The model that knows the forget set, and its retain-only sibling: one recipe for both."""

    train: Recipe
    seed: Seed = 0
    """Seed of pre-training and fine-tuning, apart from `seed` so that several unlearning seeds
    share one fine-tune."""
    path: str | None = None
    """A model fine-tuned elsewhere, a folder or a hub id; then none is fine-tuned here."""
    revision: str | None = None
    """Commit, tag or branch when `path` is a hub id."""
    adapter: Adapter | None = None
    """What the fine-tunes of target and retain model train in place of all weights: an option of
    the group `adapter`. It is kept, and merged into the base for whoever reads the model."""

    def __post_init__(self) -> None:
        if (adapter := self.adapter) is None or not adapter.adapts:
            return
        if adapter.importance is not None:
            raise ConfigError(
                f"target.adapter: {type(adapter).__name__} begins at what forget and retain rows "
                "say of a model that knows both, which the base does not",
                "target.adapter=lora, or pissa, which begins at the weights alone",
            )
        if adapter.whole:
            raise ConfigError(
                "target.adapter.merge=true: the fine-tuned adapter is kept and merged always",
                "target.adapter.merge=false",
            )
        try:
            adapter.check(self.train.precision, "float32")
        except ConfigError as error:
            here = (_of_target(text) for text in (error.problem, error.fix))
            raise ConfigError(*here) from None


def _of_target(text: str) -> str:
    """Returns words on the settings of unlearning as they are said of the target's."""
    return re.sub(r"\b(adapter|train)\.", r"target.\1.", text)


@dataclass(frozen=True)
class RetainModel:
    """The retain-only model that forget quality compares with; trained here when all is null."""

    path: str | None = None
    """A retain-only model trained elsewhere, a folder or a hub id."""
    revision: str | None = None
    """Commit, tag or branch when `path` is a hub id."""
    log: str | None = None
    """An evaluation log of a retain-only model instead of the model: open-unlearning's
    TOFU_EVAL.json, the TOFU repository's aggregated log, or the folder of an evaluation of ours."""

    def __post_init__(self) -> None:
        if self.path is not None and self.log is not None:
            raise ConfigError(
                "retain_model.path and retain_model.log both name the retain model",
                "retain_model.log=null",
            )


@dataclass(frozen=True)
class Evaluation:
    """How evaluation runs, and of what alone; what it measures is the benchmark's."""

    batch_size: Annotated[int, Ge(1), Le(1_000_000)] = 64
    """Answers per forward pass, fewer where they are long; four times as many are generated
    together. Changes speed and memory, not scores."""
    precision: Literal["float32", "bf16"] = "float32"
    """Arithmetic of evaluation; bf16 also stores the weights so, half the memory."""
    every: Annotated[int, Ge(1), Le(10**9)] | str | None = None
    """Scores along the way: a number of optimizer steps, or epochs as in 1epoch or 0.5epochs;
    null only scores the end. The unlearned model is the same, but is computed again."""
    along: Literal["all", "stop"] = "all"
    """What is scored along the way: every view; or what `train.stop` is about alone, and nothing is
    generated where teacher-forced scores say already that unlearning goes on."""
    path: str | None = None
    """A checkpoint, or an adapter on `model.path`, that is evaluated with no run around it: a
    folder or a hub id. Nothing is trained then."""
    revision: str | None = None
    """Commit, tag or branch when `path` is a hub id."""
    classifier: str | None = None
    """A classifier of texts whose first class is clean text, for views with the probe `clean`: a
    folder or a hub id."""

    def __post_init__(self) -> None:
        if isinstance(self.every, str) and not self._epochs:
            raise ConfigError(
                f"evaluate.every={self.every} is not allowed; allowed: a whole number of steps, or "
                "epochs",
                "evaluate.every=50 or evaluate.every=1epoch",
            )

    @property
    def _epochs(self) -> float:
        match = EPOCHS.fullmatch(str(self.every))
        return float(match[1]) if match else 0.0

    def steps(self, recipe: Recipe, rows: int) -> tuple[int, ...]:
        """Returns the optimizer steps, before the last, after which the model is scored."""
        if self.every is None:
            return ()
        each = (
            self.every if isinstance(self.every, int) else self._epochs * rows / recipe.batch_size
        )
        total, each = recipe.num_steps(rows), max(each, 1.0)  # no more often than after each step
        if each * MAX_SCORED < total:
            raise ConfigError(
                f"evaluate.every={self.every} scores the model more than {MAX_SCORED} times in "
                f"{total} steps",
                f"evaluate.every={math.ceil(total / MAX_SCORED)}",
            )
        marks = (math.floor(i * each + 1e-9) for i in range(1, math.ceil(total / each) + 1))
        return tuple(dict.fromkeys(step for step in marks if 0 < step < total))


@dataclass(frozen=True)
class Run:
    """One experiment: fine-tune, unlearn, evaluate."""

    model: Model
    benchmark: Benchmark
    method: Method
    rectifier: Rectifier
    train: Recipe
    target: Target
    evaluate: Evaluation
    parallel: Parallel
    tracker: Tracker
    adapter: Adapter = field(default_factory=NoAdapter)
    sweep: Sweep = field(default_factory=Sweep)
    cluster: Cluster = field(default_factory=InProcess)
    retain_model: RetainModel = field(default_factory=RetainModel)
    geffect: GEffect = field(default_factory=GEffect)
    attack: Attack = field(default_factory=NoAttack)
    calibrate: Calibration = field(default_factory=Calibration)
    name: str | None = None
    """Name of the run folder; derived from the overrides when null."""
    seed: Seed = 0
    """Seed of unlearning: order of the forget rows, retain partners, any draws of a method."""
    keep: Literal["scores", "model", "checkpoints"] = "model"
    """What an unlearned model leaves behind: evidence and scores alone; its weights, too; or also
    the weights at every `evaluate.every`."""
    save_dtype: Literal["float32", "bf16", "float16"] = "float32"
    """Number format of the unlearned model's weights on disk; what is evaluated is what is kept.
    Models of `evaluate.every` are kept as they are scored, in float32."""
    push_to_hub: str | None = None
    """Repository of the Hugging Face hub (owner/name) that the unlearned model is uploaded to once
    the run has ended, private where it is new. The token is that of `HF_TOKEN`."""
    output_dir: str | None = None
    """Where runs, sweeps and the store live; `outputs/` beside `conf/` when null."""
    store: str | None = None
    """Where artifacts live; `<output_dir>/store` when null."""
    overwrite: bool = False
    """Allow a run folder of the same name to be replaced by another configuration."""
    verify: bool = False
    """Compare every byte of every artifact taken from the store with what was written, not only of
    those that are loaded. A damaged one is computed again."""
    plan_only: bool = False
    """Print the stages, their keys and what they read, and stop."""
    estimate: bool | Literal["A100-40GB", "A100-80GB", "H100-80GB", "H200-141GB"] = False
    """Print what unlearning needs on this machine, or on ranks of a named device, and stop."""
    trusted: tuple[str, ...] = ()
    """Further packages that `_target_` may name classes from."""

    def __post_init__(self) -> None:
        if self.name is not None:
            names.validate_name(self.name)
        if self.method.one_shot and self.rectifier.acts:
            raise ConfigError(
                f"rectifier: method {type(self.method).__name__} changes the weights in one go and "
                "has no gradients to rectify",
                "rectifier=none",
            )
        if self.method.one_shot and self.adapter.adapts:
            raise ConfigError(
                f"adapter: method {type(self.method).__name__} changes all weights in one go and "
                "trains no adapter",
                "adapter=none",
            )
        if self.method.needs_whole and self.parallel.shards:
            raise ConfigError(
                f"parallel: method {type(self.method).__name__} takes second derivatives, which a "
                "model in shards does not give",
                "method.hvp=difference, or parallel=ddp",
            )
        self._check_rows()
        self._check_stop()
        self.adapter.check(self.train.precision, self.save_dtype)
        for key, adapter in (("adapter", self.adapter), ("target.adapter", self.target.adapter)):
            if self.parallel.shards and adapter is not None and not adapter.shardable:
                raise ConfigError(
                    f"{key}: fsdp2 cuts weights into rows, and those of {type(adapter).__name__} "
                    "are packed into bytes without rows",
                    f"parallel=ddp, or {key}=lora {key}.base_dtype=bf16",
                )
        self._check_upload()
        if self.calibrate.metric is not None and not self.adapter.whole:
            raise ConfigError(
                f"calibrate.metric={self.calibrate.metric} mixes whole models, and "
                f"{type(self.adapter).__name__} is kept by itself",
                "adapter.merge=true, or calibrate.metric=null",
            )
        if self.keep == "checkpoints" and self.evaluate.every is None:
            raise ConfigError(
                "keep=checkpoints keeps the models at every evaluate.every, which is null",
                "evaluate.every=1epoch, or keep=model",
            )
        if self.geffect.mode != "none" and (self.keep != "checkpoints" or self.method.one_shot):
            raise ConfigError(
                f"geffect.mode={self.geffect.mode} is of the models that a run keeps on its way; "
                "this one keeps none",
                "geffect.mode=none"
                if self.method.one_shot
                else "keep=checkpoints evaluate.every=1epoch",
            )

    def _check_rows(self) -> None:
        """Refuses a method that gives other answers to questions where nothing is asked."""
        if self.benchmark.asks:
            return
        for method in filter(None, (self.method, self.geffect.method)):
            if method.prerequisites().alternatives:
                raise ConfigError(
                    f"method: {type(method).__name__} trains on other answers to the rows' "
                    "questions, and the rows of this benchmark are texts that ask none",
                    "method=npo, or benchmark=tofu",
                )

    def _check_stop(self) -> None:
        """Refuses stop rules that nobody would look at."""
        if self.target.train.stop is not None:
            raise ConfigError(
                "target.train.stop: only unlearning is ended by scores",
                "target.train.stop=null train.stop=...",
            )
        if self.train.stop is None:
            if self.evaluate.along == "stop":
                raise ConfigError(
                    "evaluate.along=stop scores what train.stop is about, which is null",
                    "evaluate.along=all",
                )
            return
        if self.evaluate.every is None:
            raise ConfigError(
                "train.stop is looked at every evaluate.every, which is null",
                "evaluate.every=1epoch",
            )
        if self.geffect.mode != "none":
            raise ConfigError(
                f"geffect.mode={self.geffect.mode} is measured to the last step, and train.stop "
                "may end before it",
                "train.stop=null",
            )

    def _check_upload(self) -> None:
        """Refuses an upload of what is not kept, or to no repository."""
        if self.push_to_hub is None:
            return
        if not REPOSITORY.fullmatch(self.push_to_hub):
            raise ConfigError(
                f"push_to_hub={self.push_to_hub} is no repository of the hub; allowed: owner/name",
                f"push_to_hub=OWNER/{self.push_to_hub.rpartition('/')[2] or 'NAME'}",
            )
        if self.keep == "scores":
            raise ConfigError(
                "push_to_hub uploads the unlearned model, which keep=scores does not keep",
                "keep=model",
            )


def interactions(run: Run) -> list[str]:
    """Returns where the choice in one group changes what a setting of another group does."""
    if run.evaluate.path is not None:
        return []
    found = []
    if run.rectifier.bounds_norm and run.train.clip is not None:
        found.append(f"train.clip={run.train.clip} does not act: the rectifier's bound does")
    elif run.adapter.adapts and run.train.clip is not None:
        found.append(f"train.clip={run.train.clip} bounds the gradient of the adapter alone")
    if run.adapter.drops_out:
        found.append(
            "the adapter's dropout is drawn per rank and micro-batch: parallel.ranks and "
            "train.micro_batch change the noise; adapter.dropout=0 has none"
        )
    if run.method.solves and (run.target.adapter is None or not run.target.adapter.adapts):
        found.append(
            "the target trains all its weights, so method=influence solves for all of them; with "
            "target.adapter=lora it solves for an adapter"
        )
    elif run.method.retrains:
        found.append("target.train is the recipe of method=sisa; train does not act")
    elif run.method.one_shot and not run.method.solves:
        found.append(
            "train is the recipe of the method's fine-tunes; evaluate.every does not act, nor does "
            "train.stop"
        )
    if run.evaluate.every is not None and run.evaluate.precision == "bf16":
        found.append(
            "scores along the way are of float32 weights under bf16 autocast, those at the end of "
            "bf16 weights: up to 2e-3 of a row's NLL apart"
        )
    return found


def validate(config: dict[str, Any]) -> Run:
    """Returns the typed run that a plain configuration describes, and completes that.

    Raises:
        ConfigError: For whatever no run can have.
    """
    _refuse_nobody(config)
    trusted = config.get("trusted") or []
    if not isinstance(trusted, list):
        raise ConfigError(
            f"trusted={trusted} must be a list of package names", "trusted=[my_package]"
        )
    if isinstance(config.get("name"), (int, float)):
        config["name"] = str(config["name"])  # name=2024 is a name, too
    if "reference" in config:  # its name before 0.2; taken for one release more
        old = config.pop("reference")
        config["retain_model"] = {**config.get("retain_model", {}), **(old or {})}
        console.print("note: reference is now called retain_model", markup=False)
    run = build(config, Run, trusted=(*TRUSTED, *map(str, trusted)))
    config |= complete(config, run)
    return run


def _refuse_nobody(config: dict[str, Any]) -> None:
    """Refuses a path in the home of a user that there is not, wherever it stands.

    Raises:
        ConfigError: Naming the key.
    """
    for key, value in leaves(config):
        if isinstance(value, str) and value.startswith("~"):
            try:
                Path(value).expanduser()
            except RuntimeError:
                user = value.partition("/")[0][1:]
                raise ConfigError(
                    f"{key}={value}: there is no user {user}; allowed: an absolute folder"
                ) from None


def refuse_selection(run: Run) -> None:
    """Refuses to select where there is nothing to select from.

    Raises:
        ConfigError: If one run is to select.
    """
    if run.sweep.select.criterion is not None:
        raise ConfigError(
            f"sweep.select.criterion={run.sweep.select.criterion}: this is one run, or a sweep of "
            "Hydra's own; a selection is made among the jobs of unlearn -m KEY=VALUE,VALUE",
            "sweep.select.criterion=null",
        )
