"""Models that were fine-tuned elsewhere take the place of the stages that would make them."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from helpers.planning import plan_run

from unlearn_runner.api import compose
from unlearn_runner.commands.score import main as score_command
from unlearn_runner.config.root import Run
from unlearn_runner.pipeline.execute import Executor, StageResult
from unlearn_runner.pipeline.plan import Plan
from unlearn_runner.pipeline.results import flat, given, scores
from unlearn_runner.store.store import Store
from unlearn_runner.tracking.record import Record

pytestmark = pytest.mark.usefixtures("one_thread")

TINY = ("debug=tiny", "parallel.threads=1", "parallel.device=cpu", "method=npo")
SMALL = ("benchmark.source.people=20", "benchmark.source.questions=3", "train.batch_size=6")
VIEWS = ("forget", "retain", "real_authors", "world_facts")


def composed(*overrides: str) -> Run:
    return compose(*TINY, *SMALL, *overrides)


@dataclass(frozen=True)
class Ended:
    """A finished run."""

    stages: Plan
    done: list[StageResult]
    store: Store

    def place(self, label: str) -> Path:
        return next(self.store.path(x.stage) for x in self.done if x.stage.label == label)

    def scores(self) -> dict[str, float | None]:
        return flat(scores(self.stages, self.store, self.done))


def ran(folder: Path, *overrides: str) -> Ended:
    run = composed(*overrides)
    stages, store = plan_run(run), Store(folder / "store")
    return Ended(stages, Executor(store, Record(folder / "run"), run.parallel).run(stages), store)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Ended:
    """A run that makes everything itself."""
    return ran(tmp_path_factory.mktemp("made"))


@pytest.fixture(scope="module")
def elsewhere(made: Ended, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its target and retain model as a user of transformers would save them."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = tmp_path_factory.mktemp("elsewhere")
    for label in ("target", "retain_model"):
        place = made.place(label)
        AutoModelForCausalLM.from_pretrained(place).save_pretrained(folder / label)
        AutoTokenizer.from_pretrained(place).save_pretrained(folder / label)
    return folder


def paths(folder: Path) -> tuple[str, str]:
    return f"target.path={folder / 'target'}", f"retain_model.path={folder / 'retain_model'}"


@pytest.fixture(scope="module")
def taken(elsewhere: Path, tmp_path_factory: pytest.TempPathFactory) -> Ended:
    """The same unlearning, from those folders, in a store of its own."""
    return ran(tmp_path_factory.mktemp("taken"), *paths(elsewhere))


def test_no_training_is_planned_but_unlearning(taken: Ended) -> None:
    kinds = [(stage.kind, stage.label) for stage in taken.stages.stages]
    assert kinds == [
        ("given", "target"),
        ("given", "retain_model"),
        ("start", "start logprobs"),
        ("unlearn", "unlearn"),
        ("evaluate", "evaluate target"),
        ("evaluate", "evaluate retain_model"),
        ("evaluate", "evaluate unlearned"),
        ("score", "score target"),
        ("score", "score retain_model"),
        ("score", "score unlearned"),
    ]
    assert {item.outcome for item in taken.done} == {"completed"}
    made = {path.parent.name for path in taken.store.root.glob("*/*/manifest.json")}
    assert {path.name for path in taken.store.root.iterdir()} >= {"start", "unlearn"}
    assert not made & {"given", "finetune", "pretrain"}


def test_it_ends_where_a_run_that_made_them_itself_ends(taken: Ended, made: Ended) -> None:
    from safetensors.torch import load_file

    mine, theirs = (load_file(run.place("unlearn") / "model.safetensors") for run in (taken, made))
    assert set(mine) == set(theirs)
    assert all(mine[name].equal(theirs[name]) for name in mine)
    assert taken.scores() == made.scores()


def test_what_was_given_is_recorded(taken: Ended, elsewhere: Path) -> None:
    recorded = given(taken.stages)
    assert set(recorded) == {"target", "retain_model"}
    for label, text in recorded.items():
        assert str(elsewhere / label) in text
        assert next(s.key for s in taken.stages.stages if s.label == label) in text


def test_a_model_is_its_content_and_not_its_place(
    taken: Ended, elsewhere: Path, tmp_path: Path
) -> None:
    def keys(*overrides: str) -> dict[str, str]:
        return {stage.label: stage.key for stage in plan_run(composed(*overrides)).stages}

    before = keys(*paths(elsewhere))
    shutil.copytree(elsewhere, tmp_path / "moved")
    assert keys(*paths(tmp_path / "moved")) == before
    weights = tmp_path / "moved" / "target" / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(bytes(data))
    changed = keys(*paths(tmp_path / "moved"))
    same = {label for label in before if before[label] == changed[label]}
    assert same == {"retain_model", "evaluate retain_model", "score retain_model"}


def logprobs(model: Any, tokenizer: Any, question: str, answer: str) -> list[float]:
    """Each answer token's log-probability by transformers alone."""
    import torch

    prompt = f"Question: {question}\nAnswer:"
    ids = [*tokenizer(f"{prompt} {answer}")["input_ids"], tokenizer.eos_token_id]
    begin = next(n for n in range(len(ids)) if len(tokenizer.decode(ids[: n + 1])) > len(prompt))
    with torch.no_grad():
        logp = model(torch.tensor([ids])).logits[0].double().log_softmax(-1)
    return [float(logp[n - 1, ids[n]]) for n in range(begin, len(ids))]


@pytest.mark.parametrize("view", VIEWS)
def test_a_finished_model_loads_plainly_and_gives_the_evidence(
    view: str, taken: Ended, tmp_path: Path
) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    place = taken.place("unlearn")
    model: Any = AutoModelForCausalLM.from_pretrained(place).eval()
    assert json.loads((place / "config.json").read_text())["dtype"] == "float32"
    tokenizer = AutoTokenizer.from_pretrained(place)
    rows = composed().benchmark.evaluation_rows()[view][1]
    table = pq.read_table(taken.place("evaluate unlearned") / f"{view}.logprobs.parquet")
    assert table.num_rows >= 6
    for found in table.to_pylist():
        row = rows[found["row"]]
        texts = {
            "answer": (row.answer,),
            "paraphrased": (row.paraphrased_answer,),
            "perturbed": row.perturbed_answers,
        }
        answer = texts[found["role"]][found["answer_index"]]
        expected = logprobs(model, tokenizer, row.question, answer or "")
        assert found["logprob"] == pytest.approx(expected, abs=1e-5)


# --- a log in the retain model's place


def foreign_log(evaluation: Path, path: Path) -> Path:
    """Writes an evaluation as open-unlearning would, its rows in another order."""
    names = {"forget": "forget", "retain": "retain", "real_authors": "ra", "world_facts": "wf"}
    content: dict[str, Any] = {}
    for view, prefix in names.items():
        losses: dict[tuple[str, int], list[float]] = {}
        for row in pq.read_table(evaluation / f"{view}.logprobs.parquet").to_pylist():
            mean = -sum(row["logprob"]) / len(row["logprob"])
            losses.setdefault((row["role"], row["row"]), []).append(mean)
        said = pq.read_table(evaluation / f"{view}.generations.parquet").to_pylist()
        texts = [
            {"input": r["question"], "generation": r["generation"], "ground_truth": r["answer"]}
            for r in sorted(said, key=lambda r: r["row"])
        ]

        def column(rows: list[dict[str, Any]]) -> dict[str, Any]:
            return {"value_by_index": {str(i): row for i, row in enumerate(reversed(rows))}}

        for role, name in (("answer", "Prob"), ("paraphrased", "PARA_Prob")):
            rows = [
                {"avg_loss": losses[role, i][0]} for i in range(len(texts)) if (role, i) in losses
            ]
            if rows:  # a fact's right answer has no paraphrase
                content[f"{prefix}_Q_A_{name}"] = column(rows)
        wrong = [{"avg_loss": losses["perturbed", i]} for i in range(len(texts))]
        content[f"{prefix}_Q_A_PERT_Prob"] = column(wrong)
        content[f"{prefix}_Q_A_ROUGE"] = column(texts)
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


@pytest.mark.parametrize("foreign", [True, False])
def test_a_log_takes_the_references_place(
    foreign: bool, made: Ended, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = made.place("evaluate retain_model")
    log = foreign_log(log, tmp_path / "TOFU_EVAL.json") if foreign else log
    logged = ran(made.store.root.parent, f"retain_model.log={log}")
    computed = {item.stage.label for item in logged.done if not item.cached}
    assert computed == {"score target", "score retain_model", "score unlearned"}
    labels = {stage.label for stage in logged.stages.stages}
    assert labels == {s.label for s in made.stages.stages} - {
        "retain_model",
        "evaluate retain_model",
    }
    assert str(log) in given(logged.stages)["retain log"]

    mine, theirs = logged.scores(), made.scores()
    assert mine["forget_quality"] != 1, "else any log would do"
    for name in ("forget_quality", "forget_quality_ks"):
        assert mine[name] == pytest.approx(theirs[name], rel=1e-9)
    capsys.readouterr()
    assert (
        score_command([str(made.place("evaluate unlearned")), "--retain", str(log), "--json"]) == 0
    )
    told = json.loads(capsys.readouterr().out)
    assert (told["forget_quality"], told["forget_quality_ks"]) == (
        mine["forget_quality"],
        mine["forget_quality_ks"],
    )


# --- two seeds


def test_the_target_depends_on_its_own_seed_alone(made: Ended, tmp_path: Path) -> None:
    def models(*overrides: str) -> dict[str, bytes]:
        run = composed(*overrides)
        whole = plan_run(run)
        (end,) = (stage for stage in whole.stages if stage.kind == "unlearn")
        stages = tuple(s for s in whole.stages if s.kind in ("pretrain", "finetune", "start"))
        store = Store(tmp_path / "store")  # nothing of another run's is in it
        short = replace(whole, stages=(*stages, end), scores={}, wanted=(end,))
        Executor(store, Record(tmp_path / "run"), run.parallel).run(short)
        return {
            stage.label: (store.path(stage) / "model.safetensors").read_bytes()
            for stage in short.stages
            if stage.label in ("target", "unlearn")
        }

    first = {
        label: (made.place(label) / "model.safetensors").read_bytes()
        for label in ("target", "unlearn")
    }
    other = models("seed=1")
    assert other["target"] == first["target"]
    assert other["unlearn"] != first["unlearn"]
    tuned = models("target.seed=1")
    assert tuned["target"] != first["target"]
