"""Published settings are what the papers print, and follow the forget split by themselves."""

from __future__ import annotations

from typing import Any

import pytest
from test_compose import composed

from unlearn_runner.config.groups import groups
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
    named = {f"geffect/{name}" for name in GEFFECT}
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
