"""Whole runs of the smallest model: what a command leaves behind, and what the next one reuses.

Real processes where a process is the point; the other runs happen here, on the same store.
"""

from __future__ import annotations

import json
import math
import os
import re
import subprocess
import sys
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from helpers.planning import plan_run
from omegaconf import OmegaConf

from unlearn_runner.api import compose
from unlearn_runner.config import names
from unlearn_runner.config.root import Run, validate
from unlearn_runner.data.rows import Rows
from unlearn_runner.evaluation.benchmarks.base import View
from unlearn_runner.pipeline.execute import Executor, StageResult
from unlearn_runner.pipeline.plan import Plan
from unlearn_runner.pipeline.results import divergence, flat, scores
from unlearn_runner.store.store import Store
from unlearn_runner.tracking.record import Record

TINY = ("debug=tiny", "parallel.threads=1", "parallel.device=cpu")

VIEWS = ("forget", "retain", "real_authors", "world_facts")
OVERALL = {"model_utility", "forget_quality", "forget_quality_ks"}
OWN = OVERALL | {f"{v}.{m}" for v in VIEWS for m in ("probability", "rouge_l", "truth_ratio")}
SCORES = OWN | {f"{model}.{key}" for model in ("target", "retain_model") for key in OWN}

TRAINING = {"base": 2, "target": 4, "retain_model": 4, "unlearn": 3}  # steps under debug=tiny
STAGES = [
    *TRAINING,
    *(f"{what} {model}" for what in ("evaluate", "score") for model in ("target", "retain_model")),
]
STAGES = [*STAGES[:6], "evaluate unlearned", *STAGES[6:], "score unlearned"]
SHARED = ["base", "target", "retain_model", "evaluate target", "evaluate retain_model"]

# Python runs a module of this name at the start of every process that finds it.
AT_EXIT = """
import atexit, json, os, sys

def note():
    with open(os.environ["LOADED"], "w") as file:
        json.dump({name: name in sys.modules for name in ("torch", "hydra")}, file)

atexit.register(note)
"""


@dataclass(frozen=True)
class Ended:
    """A finished process and its run folder."""

    code: int
    out: str
    err: str
    folder: Path
    loaded: dict[str, bool]

    def json(self, name: str) -> Any:
        return json.loads((self.folder / name).read_text(encoding="utf-8"))

    def lines(self) -> list[dict[str, Any]]:
        text = (self.folder / "metrics.jsonl").read_text(encoding="utf-8")
        return [json.loads(line) for line in text.splitlines()]

    def stages(self) -> dict[str, dict[str, Any]]:
        return {stage["name"]: stage for stage in self.json("results.json")["stages"]}


class Workplace:
    """One outputs folder that every run of this file shares."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.outputs = folder / "outputs"
        self.store = Store(self.outputs / "store")
        (folder / "site").mkdir()
        (folder / "site" / "sitecustomize.py").write_text(AT_EXIT)

    def process(self, name: str, *overrides: str) -> Ended:
        """Runs a command in a process of its own."""
        loaded = self.folder / f"{name}.loaded"
        path = os.pathsep.join(
            filter(None, [str(self.folder / "site"), os.environ.get("PYTHONPATH")])
        )
        arguments = (*TINY, f"output_dir={self.outputs}", *overrides)
        done = subprocess.run(
            [sys.executable, "-m", "unlearn_runner.run", *arguments],
            cwd=self.folder,
            env={**os.environ, "PYTHONPATH": path, "LOADED": str(loaded), "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            timeout=1800,
        )
        named = [o.partition("=")[2] for o in overrides if o.startswith("name=")]
        folder = self.outputs / "runs" / (named[0] if named else "pocket-gd-gru,debug=tiny")
        return Ended(
            done.returncode, done.stdout, done.stderr, folder, json.loads(loaded.read_text())
        )

    def here(self, name: str, *overrides: str) -> tuple[Plan, list[StageResult], Path]:
        """Runs a command in this process."""
        run = composed(*overrides)
        stages, folder = plan_run(run), self.outputs / "runs" / name
        return stages, Executor(self.store, Record(folder), run.parallel).run(stages), folder

    def manifest(self, stage: dict[str, Any]) -> dict[str, Any]:
        path = self.store.root / stage["kind"] / stage["key"] / "manifest.json"
        return json.loads(path.read_text())


def composed(*overrides: str) -> Run:
    return compose(*TINY, *overrides)


@pytest.fixture(scope="module")
def place(own_threads: None, tmp_path_factory: pytest.TempPathFactory) -> Workplace:
    return Workplace(tmp_path_factory.mktemp("place"))


@pytest.fixture(scope="module")
def first(place: Workplace) -> Ended:
    """The default: GradDiff with GRU on the embedded benchmark."""
    ended = place.process("first")
    assert ended.code == 0, ended.err
    return ended


@pytest.fixture(scope="module")
def again(place: Workplace, first: Ended) -> Ended:
    """The same command once more."""
    before = (first.folder / "results.json").read_bytes()
    (place.folder / "first.json").write_bytes(before)
    return place.process("again")


def weights(folder: Path) -> dict[str, Any]:
    from safetensors.torch import load_file

    return load_file(folder / "model.safetensors")


# --- the first run


def test_the_default_runs_to_its_table(first: Ended) -> None:
    rows = [[cell.strip() for cell in line.split("│")] for line in first.out.splitlines()]
    table = {row[1]: row[2:6] for row in rows if len(row) > 5}
    assert set(table) == OWN
    shown = first.json("results.json")["scores"]
    for name, (better, target, unlearned, retain_model) in table.items():
        falls = name in ("forget.probability", "forget.rouge_l", "forget_quality_ks")
        assert better == ("lower" if falls else "higher")
        cells = (target, unlearned, retain_model)
        keys = (f"target.{name}", name, f"retain_model.{name}")
        assert [float(c) for c in cells] == pytest.approx([shown[k] for k in keys], abs=6e-5)
    assert str(first.folder / "results.json") in first.out


def test_results_have_one_structure(first: Ended) -> None:
    results = first.json("results.json")
    assert set(results) == {
        *("status", "name", "scores", "directions", "intervals", "stages", "provenance")
    }
    lower = {name for name, better in results["directions"].items() if better == "lower"}
    assert lower == {"forget.probability", "forget.rouge_l", "forget_quality_ks"}
    assert set(results["directions"]) == OWN
    assert (results["status"], results["name"]) == ("completed", first.folder.name)
    assert set(results["scores"]) == SCORES
    assert [stage["name"] for stage in results["stages"]] == STAGES
    for stage in results["stages"]:
        assert set(stage) == {"name", "kind", "key", "cached", "needed", "seconds", "outcome"}
        assert (stage["cached"], stage["outcome"]) == (False, "completed")
        assert stage["seconds"] >= 0
        assert len(stage["key"]) == 16


def test_scores_are_finite_and_the_reference_is_its_own_equal(first: Ended) -> None:
    found = first.json("results.json")["scores"]
    assert all(math.isfinite(value) for value in found.values())
    for name, value in found.items():
        assert 0 <= value <= 1, name
    assert found["retain_model.forget_quality"] == 1
    assert found["retain_model.forget_quality_ks"] == 0
    assert found["forget_quality"] < 1
    assert found["forget.probability"] != found["target.forget.probability"]


def test_provenance_says_what_made_the_numbers(first: Ended) -> None:
    provenance = first.json("results.json")["provenance"]
    assert provenance["seeds"] == {"seed": 0, "target.seed": 0}
    assert provenance["threads"] == 1
    assert provenance["command"].startswith("unlearn debug=tiny parallel.threads=1")
    assert len(provenance["config_hash"]) == 16
    for package in ("torch", "transformers", "hydra-core", "numpy", "scipy", "unlearn-runner"):
        assert provenance["versions"][package][0].isdigit()
    assert provenance["python"] == sys.version.split()[0]
    assert provenance["benchmark_version"] == "1"
    assert (provenance["device"], provenance["driver"]) == ("cpu", None)


def test_status_ends_completed(first: Ended) -> None:
    assert first.json("status.json")["status"] == "completed"


def test_the_log_has_what_was_printed_without_control_codes(first: Ended) -> None:
    log = (first.folder / "log.txt").read_text(encoding="utf-8")
    begins, *lines = log.splitlines()
    assert re.fullmatch(r"\d{4}-\d\d-\d\d [\d:]{8} UTC  unlearn debug=tiny .*", begins)
    stages = [stage["name"] for stage in first.json("results.json")["stages"]]
    told = re.findall(r"^\[\d+/\d+\] (.+?) +\w+/[0-9a-f]{16}", log, re.MULTILINE)
    assert sorted(told) == sorted(stages)
    assert f"results  {first.folder / 'results.json'}" in lines
    assert any(line.startswith("│ model_utility") for line in lines)
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", log)


def test_the_configuration_can_be_read_back(first: Ended) -> None:
    written: Any = OmegaConf.to_container(OmegaConf.load(first.folder / "config.yaml"))
    run, expected = validate(written), composed(f"output_dir={first.folder.parent.parent}")
    assert run == expected
    keys = [stage.key for stage in plan_run(run).stages]
    assert keys == [stage["key"] for stage in first.json("results.json")["stages"]]


def test_nothing_is_written_beside_the_outputs(first: Ended, place: Workplace) -> None:
    ours = {"outputs", "site", "first.json"}
    beside = {path.name for path in place.folder.iterdir() if path.suffix != ".loaded"}
    assert beside - ours == set()
    assert {p.name for p in first.folder.iterdir()} == {
        "config.yaml",
        "log.txt",
        "metrics.jsonl",
        "results.json",
        "status.json",
    }
    assert list(place.store.root.glob("*/.*.partial")) == []


# --- telemetry


def test_telemetry_has_every_step_of_every_training_stage(first: Ended) -> None:
    seen = [(line["stage"], line["step"]) for line in first.lines()]
    assert seen == [(stage, step + 1) for stage, n in TRAINING.items() for step in range(n)]


@pytest.mark.parametrize("stage", TRAINING)
def test_every_step_says_loss_norm_rate_and_speed(stage: str, first: Ended) -> None:
    losses = {"loss/forget", "loss/retain_risk"} if stage == "unlearn" else {"loss/train"}
    common = {"stage", "step", "grad_norm", "lr", "tokens_per_s"} | losses
    gru = {"objective_norm", "retain_norm", "cosine", "conflict", "rectified", "surviving_norm"}
    for line in first.lines():
        if line["stage"] == stage:
            assert set(line) == common | (gru if stage == "unlearn" else set())
            assert all(math.isfinite(line[key]) for key in common - {"stage"})
            assert line["grad_norm"] > 0
            assert line["tokens_per_s"] > 0
            # A model that knows nothing guesses one of 400 tokens.
            assert all(3 < line[key] < math.log(400) + 0.5 for key in losses)


def test_gru_says_whether_and_how_much_it_changed(first: Ended) -> None:
    steps = [line for line in first.lines() if line["stage"] == "unlearn"]
    for line in steps:
        assert -1 <= line["cosine"] <= 1
        assert line["rectified"] is (line["cosine"] < 0)
        left = math.sqrt(1 - line["cosine"] ** 2) if line["rectified"] else 1.0
        assert line["surviving_norm"] == pytest.approx(left, rel=1e-6)
        assert line["grad_norm"] == pytest.approx(
            line["objective_norm"] * line["surviving_norm"], rel=1e-4
        )


def test_learning_rates_follow_the_recipes(first: Ended) -> None:
    rates = {stage: [x["lr"] for x in first.lines() if x["stage"] == stage] for stage in TRAINING}
    run = composed()
    falling = [run.target.train.lr * left / 4 for left in (4, 3, 2, 1)]  # linear, to zero
    assert rates["target"] == rates["retain_model"] == pytest.approx(falling)
    assert rates["unlearn"] == pytest.approx([run.train.lr] * 3)
    assert rates["base"][0] == 0


# --- the store


def test_a_second_run_takes_everything_from_the_store_without_torch(
    place: Workplace, first: Ended, again: Ended
) -> None:
    assert again.code == 0, again.err
    assert first.loaded == {"torch": True, "hydra": True}
    assert again.loaded == {"torch": False, "hydra": True}
    assert all(stage["cached"] for stage in again.stages().values())
    assert list(again.stages()) == STAGES
    before = json.loads((place.folder / "first.json").read_text())
    after = again.json("results.json")
    assert after["scores"] == before["scores"]
    assert after["provenance"]["config_hash"] == before["provenance"]["config_hash"]
    assert [line["step"] for line in again.lines()] == [
        step + 1 for count in TRAINING.values() for step in range(count)
    ]


@pytest.mark.long
def test_a_sweep_shares_what_its_jobs_have_in_common(place: Workplace, first: Ended) -> None:
    ended = place.process("ga", "method=ga", "rectifier=none", "name=ga")
    assert ended.code == 0, ended.err
    cached = {name for name, stage in ended.stages().items() if stage["cached"]}
    assert cached == {*SHARED, "score target", "score retain_model"}
    mine, theirs = ended.json("results.json")["scores"], first.json("results.json")["scores"]
    for key in SCORES:
        if key.startswith(("target.", "retain_model.")):
            assert mine[key] == theirs[key]
    assert mine["forget.probability"] != theirs["forget.probability"]
    steps = [line for line in ended.lines() if line["stage"] == "unlearn"]
    expected = {"stage", "step", "loss/forget", "grad_norm", "lr", "tokens_per_s"}
    assert [set(line) for line in steps] == [expected] * 3


def test_a_manifest_lists_inputs_and_files(place: Workplace, first: Ended) -> None:
    stages = first.stages()
    manifest = place.manifest(stages["unlearn"])
    assert manifest["inputs"] == {"target": f"finetune/{stages['target']['key']}"}
    assert (manifest["kind"], manifest["outcome"]) == ("unlearn", "completed")
    assert {"model.safetensors", "tokenizer.json", "config.json"} <= set(manifest["files"])
    lr = next(line["lr"] for line in first.lines() if line["stage"] == "unlearn")
    assert manifest["settings"]["recipe"]["lr"] == lr
    assert "micro_batch" not in manifest["settings"]["recipe"]


@pytest.mark.parametrize("damage", ["cut", "gone", "no manifest"])
def test_a_damaged_entry_is_computed_again_to_the_same_bytes(
    damage: str, place: Workplace, first: Ended, capsys: pytest.CaptureFixture[str]
) -> None:
    entry = first.stages()["unlearn"]
    folder = place.store.root / entry["kind"] / entry["key"]
    before = place.manifest(entry)["files"]
    model = folder / "model.safetensors"
    if damage == "cut":
        model.write_bytes(model.read_bytes()[:-100])
    else:
        (model if damage == "gone" else folder / "manifest.json").unlink()
    _, done, _ = place.here(f"damaged-{damage.replace(' ', '-')}")
    assert [item.stage.label for item in done if not item.cached] == ["unlearn"]
    assert f"{folder} is damaged and is computed again" in capsys.readouterr().err
    after = place.manifest(entry)["files"]
    assert after["model.safetensors"] == before["model.safetensors"]


# --- methods and rectifiers


@pytest.mark.parametrize(
    ("method", "rectifier"), product(("ga", "gd", "kl", "npo"), ("none", "gru"))
)
def test_methods_with_and_without_gru_moves_the_model_and_is_scored(
    method: str, rectifier: str, place: Workplace, first: Ended
) -> None:
    overrides = (f"method={method}", f"rectifier={rectifier}")
    stages, done, folder = place.here(f"{method}-{rectifier}", *overrides)
    by_label = {item.stage.label: item for item in done}
    assert {item.outcome for item in done} == {"completed"}
    assert all(by_label[label].cached for label in SHARED)
    assert ("start logprobs" in by_label) == (method == "npo")

    found = flat(scores(stages, place.store, done))
    assert set(found) == SCORES
    assert all(value is not None and math.isfinite(value) for value in found.values())

    start = weights(place.store.path(by_label["target"].stage))
    moved = weights(place.store.path(by_label["unlearn"].stage))
    assert set(start) == set(moved)
    for name, before in start.items():
        assert moved[name].isfinite().all()
        assert not moved[name].equal(before), name

    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    losses = {key for x in lines if x["stage"] == "unlearn" for key in x if key[:5] == "loss/"}
    retain = set() if method == "ga" else {"loss/retain"}
    if rectifier == "gru":  # the watched risk is the NLL of retain rows, which gd and npo share
        retain = {"loss/retain_risk"} | ({"loss/retain"} if method == "kl" else set())
    assert losses == {"loss/forget"} | retain


def test_start_numbers_are_the_target_s_log_probabilities(place: Workplace, first: Ended) -> None:
    stages, _, _ = place.here("npo-gru", "method=npo")
    (numbers,) = [stage for stage in stages.stages if stage.label == "start logprobs"]
    assert [read.label for read in numbers.inputs] == ["target"]
    table = pq.read_table(place.store.path(numbers) / "forget.logprobs.parquet")
    target = place.store.root / "evaluate" / first.stages()["evaluate target"]["key"]
    judged = pq.read_table(target / "forget.logprobs.parquet").to_pylist()
    answers = [row["logprob"] for row in judged if row["role"] == "answer"]
    assert table.num_rows == 40
    for mine, theirs in zip(table["logprob"].to_pylist(), answers, strict=False):
        assert mine == pytest.approx(theirs, abs=1e-5)


def test_the_micro_batch_changes_no_key_and_hardly_a_number(
    place: Workplace, first: Ended, tmp_path: Path
) -> None:
    run = composed("train.micro_batch=5")
    stages = plan_run(run)
    assert [stage.key for stage in stages.stages] == [s["key"] for s in first.stages().values()]
    # Another store, so that unlearning is computed again from the same target.
    store = Store(tmp_path / "store")
    for label in ("base", "target", "retain_model"):
        entry = first.stages()[label]
        (store.root / entry["kind"]).mkdir(parents=True, exist_ok=True)
        folder = Path(entry["kind"]) / entry["key"]
        (store.root / folder).symlink_to(place.store.root / folder)
    models = tuple(s for s in stages.stages if s.kind not in ("evaluate", "score"))
    done = Executor(store, Record(tmp_path / "run"), run.parallel).run(
        replace(stages, stages=models, scores={}, wanted=models)
    )
    assert [item.cached for item in done] == [True, True, True, False]
    mine, theirs = (weights(s.path(done[-1].stage)) for s in (store, place.store))
    for name, value in theirs.items():
        assert mine[name].numpy() == pytest.approx(value.numpy(), abs=2e-6), name


# --- evidence


def views(run: Run) -> dict[str, tuple[View, Rows]]:
    return run.benchmark.evaluation_rows()


KEYS = ["view", "row", "role", "answer_index", "zlib"]
COLUMNS = [*KEYS, "logprob", "hit", "mean", "variance", "entropy", "rank"]


@pytest.mark.parametrize("view", VIEWS)
def test_evidence_has_every_answer_once(view: str, place: Workplace, first: Ended) -> None:
    folder = place.store.root / "evaluate" / first.stages()["evaluate unlearned"]["key"]
    table = pq.read_table(folder / f"{view}.logprobs.parquet")
    assert table.column_names == COLUMNS
    rows = views(composed())[view][1]
    assert len(rows) == 6
    expected = [(i, "answer", 0) for i in range(6)]
    expected += [(i, "paraphrased", 0) for i in range(6) if rows[i].paraphrased_answer]
    expected += [
        (i, "perturbed", n) for i in range(6) for n in range(len(rows[i].perturbed_answers))
    ]
    found = table.to_pylist()
    assert sorted((r["row"], r["role"], r["answer_index"]) for r in found) == sorted(expected)
    assert {r["view"] for r in found} == {view}
    for row in found:
        sizes = {len(row[name]) for name in COLUMNS[len(KEYS) :] if name != "logprob"}
        # No metric reads more than log-probabilities of other answers than the row's own.
        assert sizes == {len(row["logprob"]) if row["role"] == "answer" else 0}
        assert len(row["logprob"]) >= 2  # a token and the end of the sequence
    generated = pq.read_table(folder / f"{view}.generations.parquet").to_pylist()
    assert [r["row"] for r in generated] == list(range(6))
    assert [r["answer"] for r in generated] == [row.answer for row in rows]


def independent(model: Any, tokenizer: Any, question: str, answer: str) -> dict[str, Any]:
    """The probe's fields by plain transformers, with a token boundary found by decoding."""
    import torch

    prompt = f"Question: {question}\nAnswer:"
    ids = [*tokenizer(f"{prompt} {answer}")["input_ids"], tokenizer.eos_token_id]
    lengths = [len(tokenizer.decode(ids[: n + 1])) for n in range(len(ids))]
    begin = next(n for n, length in enumerate(lengths) if length > len(prompt))
    assert tokenizer.decode(ids[:begin]) == prompt
    with torch.no_grad():
        logits = model(torch.tensor([ids])).logits[0, begin - 1 : -1].double()
    labels = torch.tensor(ids[begin:])
    logp = logits.log_softmax(-1)
    label = logp[torch.arange(len(labels)), labels]
    mean = (logp.exp() * logp).sum(-1)
    return {
        "logprob": label.tolist(),
        "mean": mean.tolist(),
        "entropy": (-mean).tolist(),
        "variance": ((logp.exp() * logp**2).sum(-1) - mean**2).tolist(),
        # Two tokens within rounding of each other may change places.
        "rank_at_least": (logp > label[:, None] + 2e-5).sum(-1).tolist(),
        "rank_at_most": (logp > label[:, None] - 2e-5).sum(-1).sub(1).tolist(),
    }


@pytest.mark.parametrize("view", VIEWS)
def test_evidence_is_what_transformers_says_of_the_published_folder(
    view: str, place: Workplace, first: Ended
) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    stages = first.stages()
    folder = place.store.root / "unlearn" / stages["unlearn"]["key"]
    model: Any = AutoModelForCausalLM.from_pretrained(folder).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    rows = views(composed())[view][1]
    evidence = place.store.root / "evaluate" / stages["evaluate unlearned"]["key"]
    for found in pq.read_table(evidence / f"{view}.logprobs.parquet").to_pylist():
        row = rows[found["row"]]
        by_role = {"answer": (row.answer,), "paraphrased": (row.paraphrased_answer,)}
        texts = {**by_role, "perturbed": row.perturbed_answers}[found["role"]]
        expected = independent(model, tokenizer, row.question, texts[found["answer_index"]])
        assert found["logprob"] == pytest.approx(expected["logprob"], abs=1e-5)
        if found["role"] != "answer":
            continue
        for name in ("mean", "entropy", "variance"):
            assert found[name] == pytest.approx(expected[name], abs=1e-5), name
        for low, rank, high in zip(
            expected["rank_at_least"], found["rank"], expected["rank_at_most"], strict=True
        ):
            assert low <= rank <= high
        assert found["hit"] == [rank == 0 for rank in found["rank"]]


# --- divergence


DIVERGE = ("train.lr=1e6", "train.checkpoint_every=1", "evaluate.every=1", "name=diverged")


def test_a_run_that_diverges_ends_well_without_scores(place: Workplace, first: Ended) -> None:
    ended = place.process("diverged", *DIVERGE)
    assert ended.code == 0, ended.err
    results = ended.json("results.json")
    assert results["status"] == ended.json("status.json")["status"] == "diverged"
    assert results["divergence"] == ended.json("status.json")["divergence"]
    assert set(results["scores"]) == SCORES
    for name, value in results["scores"].items():
        assert (value is not None) == name.startswith(("target.", "retain_model.")), name
    outcomes = {name: stage["outcome"] for name, stage in ended.stages().items()}
    assert outcomes["unlearn"] == "diverged"
    assert outcomes["evaluate unlearned"] is outcomes["score unlearned"] is None
    assert outcomes["score target"] == "completed"
    *before, last = [line for line in ended.lines() if line["stage"] == "unlearn"]
    assert [line["step"] for line in (*before, last)] == list(range(1, last["step"] + 1))
    assert last["diverged"] is True
    told = results["divergence"]
    assert (told["stage"], told["step"]) == ("unlearn", last["step"])
    assert told["not_finite"] == last["not_finite"]
    assert f"diverged unlearn: {told['cause']}" in ended.out
    assert f"diverged: {told['cause']}" in ended.err
    assert "skipped: the run diverged" in ended.err
    # The trajectory is kept, and nothing large: no weights, no checkpoints.
    folder = place.store.root / "unlearn" / ended.stages()["unlearn"]["key"]
    assert sorted(path.name for path in folder.iterdir()) == ["manifest.json", "metrics.jsonl"]
    assert not list(folder.parent.glob(f".{folder.name}*.partial"))

    again = place.process("diverged", *DIVERGE)
    assert again.code == 0, again.err
    assert again.loaded["torch"] is False, "it is known to diverge"
    assert again.json("results.json")["divergence"] == told
    assert all(s["cached"] for s in again.stages().values() if s["outcome"] is not None)


def test_a_target_that_diverges_is_the_end_of_the_run(place: Workplace, first: Ended) -> None:
    """It is not unlearned, and nothing else is computed that would be worth nothing beside it."""
    stages, done, _ = place.here("no-target", "target.train.lr=1e6")
    outcomes = {item.stage.label: item.outcome for item in done}
    assert outcomes == dict.fromkeys(outcomes, None) | {"base": "completed", "target": "diverged"}
    found = divergence(done)
    assert found["stage"] == "target"
    assert set(found["not_finite"]) >= {"loss/train"}
    made = {item.stage.label for item in done if place.store.manifest(item.stage) is not None}
    assert made == {"base", "target"}
    again = Executor(place.store, Record(place.outputs / "again"), composed().parallel).run(stages)
    assert [item.cached for item in again[:2]] == [True, True]
    assert divergence(again) == found


@pytest.mark.parametrize(
    "more", [("adapter=lora", "train.micro_batch=2"), ("train.micro_batch=2",)]
)
def test_what_a_last_step_makes_useless_is_not_evaluated(
    more: tuple[str, ...], place: Workplace, first: Ended
) -> None:
    """After two steps of this size all weights are finite, and no loss is."""
    _, done, folder = place.here(
        f"useless-{len(more)}", "train.lr=1e6", "train.steps=2", "method=ga", *more
    )
    by_label = {item.stage.label: item for item in done}
    assert by_label["unlearn"].outcome == "diverged"
    assert by_label["evaluate unlearned"].outcome is None
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [line["found"] for line in lines if line.get("diverged")] == ["after the step"]
    assert math.isfinite(lines[-1]["loss/forget"])
    assert lines[-1]["step"] == 2
    assert by_label["unlearn"].divergence["not_finite"]["loss/forget"] == "nan"


def test_weights_that_are_lost_in_the_last_step_are_divergence_too(
    place: Workplace, first: Ended
) -> None:
    run = composed("train.lr=1e29", "train.weight_decay=1e11", "train.steps=1")
    whole = plan_run(run)
    stages = tuple(stage for stage in whole.stages if stage.label in TRAINING)
    training = replace(whole, stages=stages, scores={}, wanted=stages)
    record = Record(place.outputs / "runs" / "last-step")
    done = Executor(place.store, record, run.parallel).run(training)
    outcomes = {item.stage.label: item.outcome for item in done}
    assert outcomes == dict.fromkeys(TRAINING, "completed") | {"unlearn": "diverged"}
    told = divergence(done)["weights"]
    assert told["first"] == "model.embed_tokens.weight"
    assert told["numbers"] > told["tensors"] > 1


# --- a run folder belongs to one configuration


def test_a_taken_name_is_refused_and_left_as_it_was(place: Workplace, first: Ended) -> None:
    before = (first.folder / "results.json").read_bytes()
    ended = place.process("taken", f"name='{first.folder.name}'", "seed=1")
    assert ended.code == 2
    assert "it differs in seed" in ended.err
    assert ended.loaded["torch"] is False
    assert (first.folder / "results.json").read_bytes() == before


def test_the_name_is_the_same_for_the_same_command(first: Ended) -> None:
    choices = {"benchmark": "pocket", "method": "gd", "rectifier": "gru"}
    assert first.folder.name == names.derive([*TINY, "output_dir=/x"], choices)


# --- real data


def test_tofu_runs_end_to_end(place: Workplace, shared: Path) -> None:
    data = shared / "data" / "tofu"
    ended = place.process(
        "tofu",
        "benchmark=tofu",
        f"benchmark.data_dir={data}",
        "benchmark.forget=forget01",
        "name=tofu",
    )
    assert ended.code == 0, ended.err
    results = ended.json("results.json")
    assert results["status"] == "completed"
    assert set(results["scores"]) == SCORES
    assert all(math.isfinite(value) for value in results["scores"].values())
    folder = place.store.root / "evaluate" / ended.stages()["evaluate unlearned"]["key"]
    upstream = (data / "forget01_perturbed.json").read_text(encoding="utf-8").splitlines()
    questions = [json.loads(line)["question"] for line in upstream[:6]]
    generated = pq.read_table(folder / "forget.generations.parquet").to_pylist()
    assert [row["question"] for row in generated] == questions
