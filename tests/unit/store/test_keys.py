"""Which edits and settings rename which artifacts: on a copy of the package that is really edited.

One process plans every combination of method and rectifier after every edit. Code is parsed, never
imported, by the fingerprint, so an edit made while the process runs counts as one made before it.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import unlearn_runner

ROOT = Path(unlearn_runner.__file__).resolve().parent.parent

Keys = dict[str, dict[str, str]]
"""Combination -> stage label -> key."""

COMBOS = {
    f"{method}+{rectifier}": [f"method={method}", f"rectifier={rectifier}"]
    for method in ("ga", "gd", "kl", "npo")
    for rectifier in ("none", "gru")
}
COMBOS["gd+none+lora"] = ["method=gd", "rectifier=none", "adapter=lora"]
COMBOS["ga+gru-kl"] = ["method=ga", "rectifier=gru", "rectifier.risk=kl"]

# Reads cases from a file, {case: {"edits": [[file, old, new]], "overrides": [], "combos": []}}, and
# answers with the keys under each of them. Edits are undone after their case.
PLANNER = """
import functools, json, sys
from pathlib import Path
import unlearn_runner
home = Path.cwd()
assert Path(unlearn_runner.__file__).is_relative_to(home), unlearn_runner.__file__
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from unlearn_runner.store import fingerprint
from unlearn_runner.data import people
from unlearn_runner.config.compose import forced
from unlearn_runner.config.root import validate
from unlearn_runner.pipeline.inputs import read_inputs
from unlearn_runner.pipeline.plan import plan
assert Path(fingerprint.__file__).is_relative_to(home)
combos, cases = json.loads(Path(sys.argv[1]).read_text())
people.generate = functools.cache(people.generate)  # the same rows again and again
small = ["benchmark.source.people=20", "benchmark.source.questions=1"]
composed = {}

def keys(chosen, overrides):
    found = {}
    for combo in chosen:
        arguments = (*small, *combos[combo], *overrides)
        if arguments not in composed:
            config = compose("config", forced(arguments))
            composed[arguments] = OmegaConf.to_container(config, resolve=True)
        run = validate(composed[arguments])
        stages = plan(run, read_inputs(run)).stages
        found[combo] = {stage.label: stage.key for stage in stages}
    return found

answers = {}
with initialize_config_dir(version_base="1.3", config_dir=str(home / "conf")):
    for name, case in cases.items():
        originals = {}
        for file, old, new in case.get("edits", []):
            path = home / "unlearn_runner" / file
            text = path.read_text()
            originals.setdefault(path, text)
            assert old in text, f"{name}: {file} has no {old!r}"
            path.write_text(text.replace(old, new, 1))
        answers[name] = keys(case.get("combos", combos), case.get("overrides", []))
        for path, text in originals.items():
            path.write_text(text)
assert "torch" not in sys.modules, "planning must not load torch"
print(json.dumps(answers))
"""


def copy(folder: Path) -> Path:
    for name in ("unlearn_runner", "conf"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    return folder


def plan_in(home: Path, cases: dict[str, Any], combos: dict[str, list[str]]) -> dict[str, Keys]:
    (home / "cases.json").write_text(json.dumps([combos, cases]))
    (home / "planner.py").write_text(PLANNER)
    environment = {**os.environ, "PYTHONPATH": str(home), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        [sys.executable, "planner.py", "cases.json"],
        cwd=home,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


# --- what stands for what

BASE = {"base"}
FINETUNED = {"target", "retain_model"}
UNLEARNED = {"unlearn", "evaluate unlearned", "score unlearned"}
SCORES = {"score target", "score retain_model", "score unlearned"}
EVALUATED = {"evaluate target", "evaluate retain_model", "evaluate unlearned"}
NUMBERS = {"start logprobs"}
AFTER_BASE = FINETUNED | NUMBERS | UNLEARNED | EVALUATED | SCORES
ALL = BASE | AFTER_BASE
NOTHING: set[str] = set()


def every(_: str) -> bool:
    return True


def none(_: str) -> bool:
    return False


def npo(combo: str) -> bool:
    return combo.startswith("npo")


def ga(combo: str) -> bool:
    return not npo(combo)


def gru(combo: str) -> bool:
    return "+gru" in combo


def lora(combo: str) -> bool:
    return combo.endswith("+lora")


def whole(combo: str) -> bool:
    return not lora(combo)


def uses_kl(combo: str) -> bool:
    return combo.startswith("kl") or combo.endswith("-kl")


# (file, old text, new text), in which combinations it renames, which stages it renames there
Edit = tuple[str, str, str]
LOSSES, PREFERENCE = "methods/losses/likelihood.py", "methods/losses/preference.py"
GRU, BASE_PY = "rectifiers/gru.py", "methods/base.py"
LORA = "models/adapters/lora.py"
EDITS: dict[str, tuple[Edit, Callable[[str], bool], set[str]]] = {
    "the body of NPO's loss": (
        (
            PREFERENCE,
            "return -(2 / self.beta) * logsigmoid(-s",
            "return -2 / self.beta * logsigmoid(-s",
        ),
        npo,
        UNLEARNED,
    ),
    "the body of NLL, which pre-training uses too": (
        (LOSSES, 'batch.labels, reduction="sum")', 'batch.labels, reduction="sum") * 1'),
        every,
        ALL,
    ),
    "the loss of NPO": (
        ("methods/npo.py", "loss = losses.NPO", "loss = (losses.NPO, 0)[0]"),
        npo,
        UNLEARNED,
    ),
    "how a forget term is made": (
        (BASE_PY, "loss, self.weight, ", "loss, 1 * self.weight, "),
        every,
        UNLEARNED,
    ),
    "the body of GA's term": (
        ("methods/ga.py", "weight=-self", "weight=-1 * self"),
        ga,
        UNLEARNED,
    ),
    "the body of GRU's rectify": (
        (GRU, "kept, self.gamma, space)", "kept, 1 * self.gamma, space)"),
        gru,
        UNLEARNED,
    ),
    "a helper of GRU": ((GRU, "return -dot / square", "return -(dot / square)"), gru, UNLEARNED),
    "a default of GRU, whatever the run sets": (
        (GRU, "float, Gt(0), Le(1)] = 0.8", "float, Gt(0), Le(1)] = 0.7"),
        gru,
        UNLEARNED,
    ),
    "how LoRA begins": (
        (LORA, "weight.shape[1] ** -0.5", "weight.shape[1] ** (-0.5)"),
        none,
        NOTHING,
    ),
    "how LoRA begins, otherwise": (
        (LORA, "weight.shape[1] ** -0.5", "weight.shape[1] ** -0.6"),
        lora,
        UNLEARNED,
    ),
    "which modules LoRA goes to": (
        ("models/adapters/targets.py", "first <= n <= last", "first <= n < last"),
        lora,
        UNLEARNED,
    ),
    "how a whole model is saved": (
        (
            "models/adapters/none.py",
            "save(model, tokenizer, folder, dtype, state)",
            "save(model, tokenizer, folder)",
        ),
        whole,
        UNLEARNED,
    ),
    "the training step": (
        ("training/engine.py", "loss = term.loss(", "loss = 1 * term.loss("),
        every,
        ALL,
    ),
    "the optimizer": (
        ("training/optimizer.py", "eps=recipe.eps", "eps=1 * recipe.eps"),
        every,
        ALL,
    ),
    "how rows are encoded": (
        ("data/encode.py", "label_at - 1", "label_at - 1 + 0"),
        every,
        ALL,
    ),
    "how fine-tuning runs": (
        (
            "pipeline/stages/finetune.py",
            "context.path(self if kept else self.base)\n",
            'context.path(self if kept else self.base) / "."\n',
        ),
        every,
        AFTER_BASE,
    ),
    "how the start log-probabilities are computed": (
        ("pipeline/stages/start_model.py", "answers, stats)", "list(answers), stats)"),
        npo,
        NUMBERS | UNLEARNED,
    ),
    "generation": (
        ("evaluation/probes/generations.py", "@torch.no_grad()\ndef generate", "def generate"),
        every,
        EVALUATED | SCORES,
    ),
    "a metric": (
        ("evaluation/metrics/probability.py", "np.exp(-loss - np", "np.exp(-1 * loss - np"),
        every,
        SCORES,
    ),
    "how evidence is read": (
        ("evaluation/metrics/evidence.py", "answers[0] for answers", "answers[0] * 1 for answers"),
        every,
        SCORES,
    ),
    # What does not matter.
    "a source that is not chosen": (
        ("data/sources.py", 'folder / f"{split}{end}"', 'folder / f"{split}.{end}"'),
        none,
        NOTHING,
    ),
    "progress and messages": (("utils/progress.py", "= 20.0", "= 10.0"), none, NOTHING),
    "the store": (("store/store.py", "4 << 20", "8 << 20"), none, NOTHING),
    "a comment in a loss": (
        (
            PREFERENCE,
            "        gap = _log_ratio(models, batch)",
            "        # Say why.\n        gap = _log_ratio(models, batch)",
        ),
        none,
        NOTHING,
    ),
    "a comment at a line's end": (
        (PREFERENCE, "batch.rows_sum(start", "batch.rows_sum(  # per row\n            start"),
        none,
        NOTHING,
    ),
    "a docstring in GRU": ((GRU, '"""Only with a tau:', '"""With a tau:'), none, NOTHING),
    "a module's docstring": ((LOSSES, '"""Likelihood of the', '"""The'), none, NOTHING),
    "a setting's docstring": ((GRU, '"""Weight of the *newest*', '"""Weight of'), none, NOTHING),
    "blank lines": ((GRU, "\n\n\n@dataclass", "\n\n\n\n\n@dataclass"), none, NOTHING),
    "a line broken in two": (
        (LOSSES, "return kl_div(trained, start,", "return kl_div(\n            trained, start,"),
        none,
        NOTHING,
    ),
}

# A loss that Retain and GRU can both choose, and mostly do not.
KL_EDIT: Edit = (LOSSES, "start = log_softmax(models.start", "start = 1 * log_softmax(models.start")

SETTINGS: dict[str, set[str]] = {
    "name=other": NOTHING,
    "train.micro_batch=4": NOTHING,
    "target.train.micro_batch=4": NOTHING,
    "model.pretrain.micro_batch=4": NOTHING,
    "train.checkpoint_every=7": NOTHING,
    "train.gradient_checkpointing=true": NOTHING,
    "target.train.gradient_checkpointing=true": NOTHING,
    "adapter=lora": UNLEARNED,
    "target.train.checkpoint_every=null": NOTHING,
    "evaluate.batch_size=3": NOTHING,
    "parallel.threads=1": NOTHING,
    "parallel.device=cpu": NOTHING,
    "output_dir=elsewhere": NOTHING,
    "store=elsewhere": NOTHING,
    "overwrite=true": NOTHING,
    "train.lr=1.23e-5": UNLEARNED,
    "train.clip=null": UNLEARNED,
    "train.decay_norms=false": UNLEARNED,
    "train.l2=0.1": UNLEARNED,
    "train.batch_size=7": UNLEARNED,
    "train.precision=bf16": UNLEARNED | NUMBERS,
    "train.max_length=99": UNLEARNED | NUMBERS,
    "seed=1": UNLEARNED,
    "target.train.lr=1.23e-5": AFTER_BASE,
    "target.train.epochs=2.34": AFTER_BASE,
    "model.rehearse=false": AFTER_BASE,
    "target.seed=1": ALL,
    "model.pretrain.lr=1.23e-5": ALL,
    "model.vocab_size=999": ALL,
    "benchmark.source.seed=1": ALL,
    # What is evaluated follows the forget split, the target's evaluation too.
    "benchmark.forget=forget05": AFTER_BASE - {"target"},
    "benchmark.generate.max_new_tokens=9": EVALUATED | SCORES,
    "benchmark.view.world_facts.limit=9": EVALUATED | SCORES,
    "benchmark.version=x": SCORES,
    "benchmark.metric.truth_ratio.mean=arithmetic": SCORES,
}


def cases() -> dict[str, Any]:
    edits = {name: {"edits": [edit]} for name, (edit, _, _) in EDITS.items()}
    return {
        "as it is": {},
        **edits,
        "KL": {"edits": [KL_EDIT]},
        **{s: {"overrides": [s], "combos": ["ga+none", "npo+gru"]} for s in SETTINGS},
        "as it was": {},
    }


@pytest.fixture(scope="module")
def planned(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Keys]:
    """The keys of every combination, before, after each edit and setting, and at the end."""
    return plan_in(copy(tmp_path_factory.mktemp("copy")), cases(), COMBOS)


def changed(planned: dict[str, Keys], case: str) -> dict[str, set[str]]:
    before, after = planned["as it is"], planned[case]
    for combo in after:
        assert after[combo].keys() == before[combo].keys()
    return {c: {s for s in after[c] if before[c][s] != after[c][s]} for c in after}


def planned_of(combo: str, stages: set[str]) -> set[str]:
    """Those of the stages that the combination plans."""
    return stages if npo(combo) else stages - NUMBERS


# --- the plan itself


def test_only_npo_plans_start_numbers(planned: dict[str, Keys]) -> None:
    for combo, stages in planned["as it is"].items():
        assert set(stages) == (ALL if npo(combo) else ALL - NUMBERS), combo


def test_combinations_share_everything_before_unlearning(planned: dict[str, Keys]) -> None:
    keys = planned["as it is"]
    for stage in ALL - UNLEARNED - NUMBERS:
        assert len({keys[combo][stage] for combo in keys}) == 1, stage
    for stage in UNLEARNED:
        assert len({keys[combo][stage] for combo in keys}) == len(COMBOS), stage
    assert keys["npo+none"]["start logprobs"] == keys["npo+gru"]["start logprobs"]


def test_keys_are_sixteen_hex_digits_and_all_different(planned: dict[str, Keys]) -> None:
    for stages in planned["as it is"].values():
        assert len(set(stages.values())) == len(stages)
        assert all(len(key) == 16 and int(key, 16) >= 0 for key in stages.values())


def test_undoing_all_edits_gives_the_first_keys_again(planned: dict[str, Keys]) -> None:
    assert planned["as it was"] == planned["as it is"]


def test_another_process_and_another_folder_find_the_same_keys(
    planned: dict[str, Keys], tmp_path: Path
) -> None:
    """An edit made before the process starts counts like one made while it runs."""
    home = copy(tmp_path)
    file, old, new = EDITS["the body of NPO's loss"][0]
    path = home / "unlearn_runner" / file
    path.write_text(path.read_text().replace(old, new))
    combos = {name: COMBOS[name] for name in ("ga+gru", "npo+gru")}
    found = plan_in(home, {"edited": {}}, combos)["edited"]
    assert found == {combo: planned["the body of NPO's loss"][combo] for combo in combos}


# --- code


@pytest.mark.parametrize("name", EDITS)
def test_an_edit_renames_what_it_computes_and_nothing_else(
    planned: dict[str, Keys], name: str
) -> None:
    _, concerned, stages = EDITS[name]
    assert changed(planned, name) == {
        combo: planned_of(combo, stages) if concerned(combo) else NOTHING for combo in COMBOS
    }


@pytest.mark.parametrize("combo", [c for c in COMBOS if uses_kl(c)])
def test_editing_kl_renames_what_uses_it(planned: dict[str, Keys], combo: str) -> None:
    assert changed(planned, "KL")[combo] == UNLEARNED


@pytest.mark.parametrize("combo", [c for c in COMBOS if not uses_kl(c)])
def test_editing_kl_renames_nothing_that_does_not_use_it(
    planned: dict[str, Keys], combo: str
) -> None:
    assert changed(planned, "KL")[combo] == NOTHING


# --- settings


@pytest.mark.parametrize("setting", SETTINGS)
def test_a_setting_renames_what_depends_on_it_and_nothing_else(
    planned: dict[str, Keys], setting: str
) -> None:
    found = changed(planned, setting)
    assert found == {combo: planned_of(combo, SETTINGS[setting]) for combo in found}
    assert len(found) == 2
