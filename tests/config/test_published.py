"""Published settings are what the papers print, and follow the forget split by themselves."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from test_compose import composed

from unlearn_runner.config.groups import CONF, groups
from unlearn_runner.config.root import validate
from unlearn_runner.methods.base import Retain
from unlearn_runner.methods.npo import NPO
from unlearn_runner.methods.rmu import RMU
from unlearn_runner.methods.tnpo import TNPO, WTNPO
from unlearn_runner.methods.wga import WGA

SMALL, LARGE = ("forget01", "forget05"), ("forget10",)

# G-effect's table: TOFU 1 and 5 % share a column.
GEFFECT: dict[str, dict[tuple[str, ...], Any]] = {
    "wga": {SMALL: WGA(alpha=5.0), LARGE: WGA(alpha=7.0)},
    "npo": {SMALL + LARGE: NPO(beta=0.5)},
    "tnpo": {SMALL: TNPO(beta=4.0), LARGE: TNPO(beta=5.0)},
    "wtnpo": {SMALL: WTNPO(alpha=1.5, beta=5.0), LARGE: WTNPO(alpha=1.5, beta=7.0)},
    "rmu_phi": {SMALL + LARGE: RMU(Retain("rr"), layer=9, coefficient=4.0, direction="uniform")},
    "rmu_llama2": {
        SMALL + LARGE: RMU(Retain("rr"), layer=21, coefficient=2.0, direction="uniform")
    },
}
CASES = [
    (name, forget, method)
    for name, by_split in GEFFECT.items()
    for splits, method in by_split.items()
    for forget in splits
]


@pytest.mark.parametrize(("name", "forget", "method"), CASES)
def test_g_effects_methods_follow_the_forget_split(name: str, forget: str, method: Any) -> None:
    options = ("benchmark=tofu", f"benchmark.forget={forget}", f"method=geffect/{name}")
    assert validate(composed(*options)).method == method


def test_every_one_of_them_is_covered() -> None:
    named = {f"geffect/{name}" for name in GEFFECT} | {"llmeraser/correct"}
    assert {name for name in groups()["method"] if "/" in name} == named


@pytest.mark.parametrize(("model", "lr"), [("phi", 2e-5), ("llama2", 1e-5)])
def test_g_effects_recipe(model: str, lr: float) -> None:
    if model not in "".join(groups()["model"]):
        pytest.skip(f"conf/model has no {model} yet")
    run = validate(composed(f"experiment=geffect/tofu_{model}", "benchmark.data_dir=x"))
    assert (run.train.lr, run.train.batch_size, run.train.clip) == (lr, 16, 1.0)
    assert [run.train.num_steps(rows) for rows in (40, 200, 400)] == [12, 62, 125]
    assert run.train.num_warmup_steps(200) == 12
    assert run.train.schedule == "constant"


@pytest.mark.parametrize(("forget", "beta", "weight"), [("05", 2.5, 0.1375), ("10", 4.5, 0.125)])
def test_simnpos_settings_follow_the_forget_split(forget: str, beta: float, weight: float) -> None:
    if "llama2_7b" not in groups()["model"]:
        pytest.skip("conf/model has no llama2_7b yet")
    run = validate(composed("experiment=simnpo/tofu_llama2", f"benchmark.forget=forget{forget}"))
    method: Any = run.method
    assert (method.beta, method.weight, method.retain.weight) == (beta, weight, 1.0)


@pytest.mark.parametrize("name", ["geffect/tofu_phi", "geffect/tofu_llama2", "simnpo/tofu_llama2"])
def test_evaluation_sizes_are_the_published_codes(name: str) -> None:
    """300 rows and 200 tokens with the prompt, as both repositories' configurations say."""
    run = validate(composed(f"experiment={name}", "benchmark.data_dir=x"))
    benchmark: Any = run.benchmark
    assert benchmark.compat == "locuslab"
    assert benchmark.generation.max_length == 200


# What a file's header tells a reader is what the file does.


def header(name: str) -> str:
    """Returns the comment at the top of a file of options, as one line."""
    lines = (Path(CONF) / f"{name}.yaml").read_text(encoding="utf-8").splitlines()
    return " ".join(line.lstrip("# ") for line in lines if line.startswith("#"))


@pytest.mark.parametrize("model", ["phi", "llama2"])
def test_the_fine_tune_before_gru_follows_the_schedule_that_is_named(model: str) -> None:
    run: Any = validate(composed(f"experiment=gru/tofu_{model}", "benchmark.data_dir=x"))
    told = re.search(
        r"fine-tune: one epoch of warm-up, then (\w+)", header(f"experiment/gru/tofu_{model}")
    )
    assert told is not None
    assert told[1] == run.target.train.schedule
    assert run.target.train.warmup_epochs == 1.0


@pytest.mark.parametrize("size", ["1b", "3b", "8b"])
def test_open_unlearning_s_presets_say_how_many_steps_there_are_here_and_there(size: str) -> None:
    name = f"experiment=open_unlearning/tofu_npo_{size}"
    run: Any = validate(composed(name, "benchmark.data_dir=x"))
    told = header(name.replace("=", "/"))
    per_epoch = 400 // run.train.batch_size  # Hugging Face's Trainer rounds each epoch down
    assert f"{run.train.num_steps(400)} for {run.train.epochs:g} epochs of 400 rows" in told
    assert f"train.steps={per_epoch * int(run.train.epochs)}" in told


def test_the_codes_kl_is_not_said_to_be_ours() -> None:
    assert "average over padding" in header("method/kl")


def test_rmu_s_layers_are_counted_as_its_parameters_are_named() -> None:
    """A command in the header trains `layers.[567]`; the last of them must be steered."""
    told = re.search(r"method\.layer=\d+ 'method\.parameters=[^']*'", header("method/rmu"))
    assert told is not None
    method: Any = validate(composed("method=rmu", *shlex.split(told[0]))).method
    modules = [n for n in range(20) if re.search(method.parameters, f"layers.{n}.mlp.down_proj")]
    assert modules == [5, 6, 7]
    assert method.layer == max(modules) + 1
    assert "layer 8" in (RMU.__doc__ or "")
