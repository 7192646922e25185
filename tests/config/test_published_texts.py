"""Published settings of the benchmarks over texts and sequences are what their sources print."""

from __future__ import annotations

import pytest
from test_compose import composed

from unlearn_runner.config.root import validate
from unlearn_runner.models.adapters.fila import FILA
from unlearn_runner.training.stop import StopRule


@pytest.mark.parametrize("model", ["125m", "1.3b", "2.7b"])
@pytest.mark.parametrize("rank", [4, 32])
def test_lokus_recipe_on_the_extraction_challenge(model: str, rank: int) -> None:
    run = validate(composed(f"experiment=loku/tdec_neo{model}", f"adapter.rank={rank}"))
    assert run.adapter == FILA(rank=rank)
    assert (FILA.alpha_per_rank, FILA().alpha) == (2.0, None)
    assert (run.train.lr, run.train.schedule, run.train.epochs) == (2e-4, "constant", 20.0)
    assert run.train.num_steps(32) == 20
    assert run.evaluate.steps(run.train, 32) == tuple(range(1, 20))
    own = {"forget.el_10": 0.0499, "forget.ma": 0.2994}
    bound = own if model == "125m" else {name: f"unseen{name[6:]}" for name in own}
    assert run.train.stop_rules == tuple(StopRule(name, below=bound[name]) for name in own)


@pytest.mark.parametrize("corpus", ["news", "books"])
def test_gru_and_simnpo_on_muse(corpus: str) -> None:
    gru = validate(composed(f"experiment=gru/muse_{corpus}"))
    assert (gru.train.lr, gru.train.epochs, gru.train.batch_size) == (1e-5, 1.0, 32)
    assert vars(gru.rectifier)["gamma"] == 0.8
    simnpo = vars(validate(composed(f"experiment=simnpo/muse_{corpus}")).method)
    assert (simnpo["beta"], simnpo["gamma"]) == (0.7, 3.0)


@pytest.mark.parametrize("corpus", ["news", "books"])
def test_open_unlearning_on_muse(corpus: str) -> None:
    run = validate(composed(f"experiment=open_unlearning/muse_{corpus}", "method=npo"))
    assert (run.train.lr, run.train.epochs, run.train.batch_size) == (1e-5, 10.0, 32)
    assert (run.train.schedule, run.train.weight_decay, run.train.max_length) == (
        "constant",
        0,
        2048,
    )
    assert run.target.path == f"muse-bench/MUSE-{corpus}_target"
    assert vars(run.benchmark)["source"].split["forget"].file == f"{corpus}/raw/forget"
    assert not run.rectifier.acts


def test_open_unlearning_on_wmdp() -> None:
    run = validate(composed("experiment=open_unlearning/wmdp_zephyr"))
    assert (run.train.lr, run.train.steps, run.train.batch_size) == (5e-5, 80, 16)
    method = vars(run.method)
    assert (method["layer"], method["coefficient"]) == (8, 2.0)
    assert (method["retain"].loss, method["retain"].weight) == ("rr", 1.0)
    training = vars(run.benchmark)["training"]
    assert (training.forget, training.retain) == ("cyber_forget", "cyber_retain")


def test_gru_and_rmu_on_wmdp() -> None:
    gru = validate(composed("experiment=gru/wmdp_zephyr"))
    assert (gru.train.lr, gru.train.steps, gru.train.batch_size) == (4e-6, 20, 32)
    assert (vars(gru.rectifier)["gamma"], vars(gru.method)["beta"]) == (0.8, 0.1)
    rmu = validate(composed("experiment=rmu/wmdp_zephyr"))
    assert (rmu.train.lr, rmu.train.steps, rmu.train.batch_size) == (5e-5, 150, 4)
    method = vars(rmu.method)
    assert (method["layer"], method["coefficient"]) == (8, 6.5)
    assert (method["retain"].loss, method["retain"].weight) == ("rr", 1200.0)
    names = [
        f"model.layers.{i}.mlp.{part}_proj.weight" for i in range(9) for part in ("up", "down")
    ]
    assert [name for name in names if rmu.method.trains(name)] == [
        f"model.layers.{i}.mlp.down_proj.weight" for i in (5, 6, 7)
    ]
    for run in (gru, rmu):
        assert run.target.path == "HuggingFaceH4/zephyr-7b-beta"
