"""GRU on a real model, what a training run survives, and which rows are drawn."""

from __future__ import annotations

import json
import math
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.utils import parameters_to_vector

from unlearn_runner.errors import DataError
from unlearn_runner.methods.base import Method, Objective, Retain, Term
from unlearn_runner.methods.ga import GA
from unlearn_runner.methods.losses import NLL
from unlearn_runner.models.forward import Models
from unlearn_runner.models.gradients import GradientSpace
from unlearn_runner.models.load import load_model, new_model, save
from unlearn_runner.models.shape import Shape
from unlearn_runner.rectifiers.base import Rectifier
from unlearn_runner.rectifiers.gru import GRU, MEAN
from unlearn_runner.rectifiers.none import NoRectifier
from unlearn_runner.rectifiers.watched import OBJECTIVE
from unlearn_runner.tracking.divergence import evidence
from unlearn_runner.training import checkpoint
from unlearn_runner.training.batches import Sampler, StepLoader, StepRows
from unlearn_runner.training.divergence import Diverged
from unlearn_runner.training.engine import Engine
from unlearn_runner.training.loop import TrainingLog, train
from unlearn_runner.training.recipe import Recipe
from unlearn_runner.utils.files import finite

pytestmark = pytest.mark.usefixtures("one_thread")

CPU = torch.device("cpu")


@dataclass(frozen=True)
class Descend(Objective):
    """Descent on the forget rows: on rows that are also the retain rows, nothing conflicts."""

    def terms(self) -> tuple[Term, ...]:
        forget = Term("forget", "forget", NLL(), 1.0, self.unit)
        return (forget, *self.retain.terms(self.unit))


def engine_for(tiny: Any, method: Method, rectifier: Rectifier, **recipe: Any) -> Engine:
    return Engine(
        models=Models(tiny.llama(), None, nullcontext),
        terms=method.terms(),
        recipe=Recipe(**{"lr": 1e-3, "batch_size": 8, "clip": None, "steps": 10, **recipe}),
        num_rows=len(tiny.forget),
        pad=tiny.pad,
        rectifier=rectifier,
    )


def unlearning_loader(tiny: Any) -> StepLoader:
    return StepLoader("forget", tiny.forget, 8, 0, tiny.retain)


def weights(engine: Engine) -> torch.Tensor:
    return parameters_to_vector(engine.models.trained.parameters()).detach().clone()


def flat(gradient: list[torch.Tensor | None]) -> torch.Tensor:
    return torch.cat([g.reshape(-1).double() for g in gradient if g is not None])


# --- the projection


@pytest.mark.parametrize(
    ("method", "rectifier"),
    [
        pytest.param(GA(), GRU(gamma=0.8), id="ga"),
        pytest.param(GA(), GRU(gamma=0.8, tau=0.05), id="ga, bounded after"),
        pytest.param(GA(), GRU(gamma=0.8, tau=0.05, clip="before"), id="ga, bounded before"),
        pytest.param(GA(retain=Retain("nll", 0.2)), GRU(gamma=0.8), id="gd"),
        pytest.param(GA(), GRU(gamma=1.0), id="ga, no memory"),
    ],
)
def test_what_is_stepped_with_is_orthogonal_to_the_retain_gradient(
    tiny: Any, method: Method, rectifier: GRU
) -> None:
    engine, loader = engine_for(tiny, method, rectifier), unlearning_loader(tiny)
    stepped: list[torch.Tensor] = []

    def see(optimizer: torch.optim.Optimizer, *_: object) -> None:
        stepped.append(flat([p.grad for p in optimizer.param_groups[0]["params"]]))

    engine.optimizer.register_step_pre_hook(see)
    triggered = 0
    for step in range(10):
        facts = engine.step(loader.step(step))
        assert facts is not None
        g, m = stepped[-1], flat(engine.rectifier_state[MEAN])
        cosine = float(g @ m / (g.norm() * m.norm()))
        if facts["rectified"]:
            triggered += 1
            assert facts["cosine"] < -1e-3, "or there was hardly anything to remove"
            assert abs(cosine) < 1e-6
        else:
            assert cosine >= 0
        if rectifier.tau is not None:
            assert float(g.norm()) <= rectifier.tau * (1 + 1e-6)
    assert triggered >= 3, "or nothing was checked"


# --- no conflict, no change


def same_rows(tiny: Any, step: int) -> StepRows:
    rows = StepLoader("forget", tiny.retain, 8, 0).step(step).splits["forget"]
    return StepRows({"forget": rows, "retain": rows})


def test_without_conflict_gru_leaves_a_one_term_method_bit_for_bit(tiny: Any) -> None:
    plain, gru = (engine_for(tiny, Descend(Retain("none")), r) for r in (NoRectifier(), GRU()))
    start = weights(plain)
    for step in range(10):
        assert plain.step(same_rows(tiny, step)) is not None
        facts = gru.step(same_rows(tiny, step))
        assert facts is not None
        assert facts["rectified"] is False
        assert facts["cosine"] > 0
    assert torch.equal(weights(gru), weights(plain))
    assert not torch.equal(weights(gru), start)


@pytest.mark.parametrize("weight", [1.0, 0.3])
def test_without_conflict_gru_leaves_a_two_term_method_to_rounding(
    tiny: Any, weight: float
) -> None:
    method = Descend(Retain("nll", weight))
    plain, gru = (engine_for(tiny, method, r) for r in (NoRectifier(), GRU()))
    gru.models.trained.load_state_dict(plain.models.trained.state_dict())
    for step in range(10):
        rows = same_rows(tiny, step)
        gru.models.trained.load_state_dict(plain.models.trained.state_dict())
        found = gru.rectifier.rectify(
            gru.gradients(rows)[0], gru.terms, gru.rectifier_state, gru.space
        )
        assert found.facts["rectified"] is False
        expected = flat(plain.gradients(rows)[0][OBJECTIVE])
        difference = flat(found.gradient) - expected
        assert float(difference.norm()) < 1e-6 * float(expected.norm())
        assert plain.step(rows) is not None


# --- state


def test_the_state_holds_everything_later_steps_depend_on(tiny: Any, tmp_path: Path) -> None:
    loader = unlearning_loader(tiny)
    recipe = {"schedule": "linear", "warmup_steps": 2}
    whole, half, fresh = (engine_for(tiny, GA(), GRU(), **recipe) for _ in range(3))
    expected = [whole.step(loader.step(step)) for step in range(10)]
    for step in range(5):
        half.step(loader.step(step))
    checkpoint.save(tmp_path, "key", 5, half.state(5))
    state = checkpoint.load(tmp_path, "key", CPU)
    assert state is not None
    assert fresh.restore(state) == 5
    found = [fresh.step(loader.step(step)) for step in range(5, 10)]
    assert found == expected[5:]
    assert torch.equal(weights(fresh), weights(whole))

    # The running mean is a part of it: without it the very next step is another one.
    forgetful = engine_for(tiny, GA(), GRU(), **recipe)
    reloaded = checkpoint.load(tmp_path, "key", CPU)
    assert reloaded is not None
    forgetful.restore({**reloaded, "rectifier_state": {}})
    other = forgetful.step(loader.step(5))
    assert other is not None
    assert other["retain_norm"] != expected[5]["retain_norm"]


def log_in(folder: Path, write: Any, key: str = "key") -> TrainingLog:
    return TrainingLog(folder, key, write)


class Kill(Exception):
    """Stands for a kill at an arbitrary moment."""


@dataclass(frozen=True)
class Case:
    """A training stage that can be begun any number of times."""

    tiny: Any
    unlearns: bool
    every: int | None = 3

    def engine(self) -> Engine:
        recipe = {"checkpoint_every": self.every, "schedule": "linear", "warmup_steps": 1}
        if self.unlearns:
            return engine_for(self.tiny, GA(Retain("nll", 0.2)), GRU(gamma=0.8), **recipe)
        engine = engine_for(self.tiny, GA(), NoRectifier(), **recipe)
        terms = (Term("train", "train", NLL()),)
        return replace(engine, terms=terms, num_rows=len(self.tiny.rows))

    def loader(self) -> StepLoader:
        return (
            unlearning_loader(self.tiny)
            if self.unlearns
            else StepLoader("train", self.tiny.rows, 8, 0)
        )

    def run(self, folder: Path, killed_at: int | None = None) -> tuple[torch.Tensor, list[int]]:
        """Weights after training, and the steps that were taken."""
        folder.mkdir(exist_ok=True)
        engine, steps, loader = self.engine(), list[int](), self.loader()

        def log(facts: dict[str, Any]) -> None:
            steps.append(facts["step"])
            if facts["step"] == killed_at:
                raise Kill

        if killed_at is None:
            assert train(engine, loader, "stage", log_in(folder, log)) is True
        else:
            with pytest.raises(Kill):
                train(engine, loader, "stage", log_in(folder, log))
        return weights(engine), steps


@pytest.fixture(params=[False, True], ids=["finetune", "gd+gru"])
def case(request: pytest.FixtureRequest, tiny: Any) -> Case:
    return Case(tiny, request.param)


def test_a_killed_run_continues_from_its_checkpoint_bit_for_bit(case: Case, tmp_path: Path) -> None:
    expected, steps = replace(case, every=None).run(tmp_path / "whole")
    assert steps == list(range(1, 11))
    assert not list((tmp_path / "whole").iterdir()), "checkpoint_every=null writes none"

    killed, steps = case.run(tmp_path / "killed", killed_at=7)
    assert steps == list(range(1, 8))
    assert not torch.equal(killed, expected)
    found, steps = case.run(tmp_path / "killed")
    assert steps == [7, 8, 9, 10], "it began behind the checkpoint of step 6"
    assert torch.equal(found, expected)


def test_a_run_may_be_killed_again_and_again(case: Case, tmp_path: Path) -> None:
    expected, _ = case.run(tmp_path / "whole")
    for killed_at in (2, 4, 5, 8):
        case.run(tmp_path / "killed", killed_at)
    found, steps = case.run(tmp_path / "killed")
    assert steps == [7, 8, 9, 10]
    assert torch.equal(found, expected)


DAMAGE = {
    "emptied": lambda content: b"",
    "cut": lambda content: content[: len(content) // 3],
    "cut at the end": lambda content: content[:-1],
    "one bit flipped": lambda content: content[:5000] + bytes([content[5000] ^ 1]) + content[5001:],
    "other bytes": lambda content: b"hello",
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_checkpoint_is_set_aside_and_the_one_before_serves(
    case: Case, tmp_path: Path, damage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    expected, _ = case.run(tmp_path / "whole")
    case.run(tmp_path / "killed", killed_at=7)
    path = tmp_path / "killed" / "step-00000006.pt"
    path.write_bytes(DAMAGE[damage](path.read_bytes()))
    capsys.readouterr()
    found, steps = case.run(tmp_path / "killed")
    assert steps == list(range(4, 11)), "it began behind the checkpoint of step 3"
    assert torch.equal(found, expected)
    assert f"warning: the checkpoint {path.with_suffix('.json')} is damaged" in (
        capsys.readouterr().err
    )


@pytest.mark.parametrize("content", ["", "{", "[]", '{"key": 1}', '{"key": "key"}'])
def test_a_checkpoint_whose_note_cannot_be_read_is_passed_over(
    tmp_path: Path, content: str
) -> None:
    checkpoint.save(tmp_path, "key", 3, {"step": 3})
    checkpoint.save(tmp_path, "key", 6, {"step": 6})
    (tmp_path / "step-00000006.json").write_text(content)
    assert checkpoint.load(tmp_path, "key", CPU) == {"step": 3}


def test_when_all_checkpoints_are_damaged_the_stage_starts_over(case: Case, tmp_path: Path) -> None:
    expected, _ = case.run(tmp_path / "whole")
    case.run(tmp_path / "killed", killed_at=7)
    for path in (tmp_path / "killed").glob("*.pt"):
        path.write_bytes(b"nothing")
    found, steps = case.run(tmp_path / "killed")
    assert steps == list(range(1, 11))
    assert torch.equal(found, expected)


def test_a_checkpoint_of_another_configuration_is_refused_and_kept(
    case: Case, tmp_path: Path
) -> None:
    case.run(tmp_path, killed_at=7)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(DataError, match="another configuration"):
        train(case.engine(), case.loader(), "stage", log_in(tmp_path, print, "other"))
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_checkpoint_of_another_architecture_is_refused(case: Case, tmp_path: Path) -> None:
    checkpoint.save(tmp_path, "key", 3, case.engine().state(3))
    other = new_model(Shape(32, 50, 1, 2, True, 128), case.tiny.tokenizer, seed=0)
    engine = replace(case.engine(), models=Models(other, None, nullcontext))
    with pytest.raises(DataError, match="does not fit the model"):
        train(engine, case.loader(), "stage", log_in(tmp_path, print))


def test_the_newest_two_checkpoints_are_kept(tmp_path: Path) -> None:
    for step in range(1, 6):
        checkpoint.save(tmp_path, "key", step, {"step": step})
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == [f"step-0000000{step}.{kind}" for step in (4, 5) for kind in ("json", "pt")]


def test_a_checkpoint_half_written_does_not_touch_the_one_before(tmp_path: Path) -> None:
    checkpoint.save(tmp_path, "key", 3, {"step": 3})

    class Unpicklable:
        def __reduce__(self) -> Any:
            raise Kill

    with pytest.raises(Kill):
        checkpoint.save(tmp_path, "key", 6, {"step": 6, "more": Unpicklable()})
    assert checkpoint.load(tmp_path, "key", CPU) == {"step": 3}


# --- divergence


def infinite_weight(engine: Engine) -> None:
    with torch.no_grad():
        next(iter(engine.models.trained.parameters()))[7, 3] = torch.inf


def broken_at_step_3(engine: Engine) -> None:
    step = engine.step

    def stepping(rows: StepRows) -> dict[str, Any]:
        if engine.schedule.last_epoch == 2:
            infinite_weight(engine)
        return step(rows)

    engine.step = stepping


@pytest.mark.parametrize("rectifier", [NoRectifier(), GRU(), GRU(tau=1.0, cos_clip=True)], ids=repr)
@pytest.mark.parametrize(
    ("breaks", "finite_steps"), [(infinite_weight, 0), (broken_at_step_3, 2)], ids=["at once", "3"]
)
def test_training_that_diverges_says_so_and_stops(
    tiny: Any, tmp_path: Path, rectifier: Rectifier, breaks: Any, finite_steps: int
) -> None:
    engine, lines = engine_for(tiny, GA(Retain()), rectifier), list[dict[str, Any]]()
    breaks(engine)
    assert (
        train(engine, unlearning_loader(tiny), "unlearn", log_in(tmp_path, lines.append)) is False
    )
    assert len(lines) == finite_steps + 1
    assert not any("diverged" in line for line in lines[:-1])
    last = lines[-1]
    assert (last["stage"], last["step"], last["diverged"]) == ("unlearn", finite_steps + 1, True)
    # The one weight that is lost, and what came of it before the step was taken.
    assert last["weights"] == {"first": "model.embed_tokens.weight", "tensors": 1, "numbers": 1}
    assert last["found"] == "in the step"
    assert last["not_finite"]["loss/forget"] == "nan"
    assert "tokens_per_s" not in last, "no step was taken"
    found = evidence(json.dumps(finite(line)) for line in lines)
    assert found["cause"].startswith(f"1 weight is not finite after step {finite_steps} (model.em")
    if finite_steps:
        expected = {k: v for k, v in lines[-2].items() if k[:5] == "loss/" or k == "grad_norm"}
        assert found["last_finite"] == {"step": finite_steps, **expected}
    else:
        assert "last_finite" not in found


@pytest.mark.parametrize("micro_batch", [None, 3])
def test_what_is_finite_and_yet_of_no_use_is_noticed_at_the_end_and_not_saved(
    tiny: Any, tmp_path: Path, micro_batch: int | None
) -> None:
    """Weights of 1e15 are finite; the products of attention are not."""

    def scaled_after(number: int, factor: float) -> Engine:
        recipe = {"steps": 4, "checkpoint_every": 2, "micro_batch": micro_batch}
        engine = engine_for(tiny, GA(Retain()), GRU(), **recipe)
        step = engine.step

        def stepping(rows: StepRows) -> dict[str, Any]:
            facts = step(rows)
            if engine.schedule.last_epoch == number:
                with torch.no_grad():
                    for parameter in engine.models.trained.parameters():
                        parameter.mul_(factor)
            return facts

        engine.step = stepping
        return engine

    for at, factor, lost_weights in ((2, 1e15, False), (4, 1e15, False), (4, 1e45, True)):
        lines, folder = list[dict[str, Any]](), tmp_path / f"{at}-{factor}"
        folder.mkdir()
        work = log_in(folder, lines.append)
        assert train(scaled_after(at, factor), unlearning_loader(tiny), "unlearn", work) is False
        assert [line["step"] for line in lines] == list(range(1, at + 1))
        last = lines[-1]
        assert last["found"] == "after the step"
        assert math.isfinite(last["loss/forget"]), "the step's own numbers stay"
        assert last["not_finite"]["loss/forget"] == "nan"
        assert ("weights" in last) == lost_weights
        saved = sorted(path.name for path in folder.glob("step-*.json"))
        assert saved == ([] if at == 2 else ["step-00000002.json"])


def test_a_last_look_changes_no_number(tiny: Any) -> None:
    loader, pair = unlearning_loader(tiny), [engine_for(tiny, GA(Retain()), GRU()) for _ in "ab"]
    for step in range(3):
        for engine in pair:
            facts = engine.step(loader.step(step))
        pair[0].check_finite(loader.step(step), facts)
    assert torch.equal(weights(pair[0]), weights(pair[1]))


def test_a_step_that_is_not_finite_leaves_the_weights_as_they_were(tiny: Any) -> None:
    engine = engine_for(tiny, GA(Retain()), GRU())
    infinite_weight(engine)
    before = weights(engine)
    with pytest.raises(Diverged):
        engine.step(unlearning_loader(tiny).step(0))
    assert torch.equal(weights(engine), before)


def test_a_learning_rate_without_measure_diverges(tiny: Any, tmp_path: Path) -> None:
    lines = list[dict[str, Any]]()
    engine = engine_for(tiny, GA(), NoRectifier(), lr=1e20)
    assert (
        train(engine, unlearning_loader(tiny), "unlearn", log_in(tmp_path, lines.append)) is False
    )
    assert lines[-1]["diverged"] is True


# --- float32 master weights


def test_under_bf16_the_weights_stay_float32_and_a_small_step_is_not_lost(
    tiny: Any, tmp_path: Path
) -> None:
    save(tiny.llama(torch.bfloat16), tiny.tokenizer, tmp_path)
    model = load_model(tmp_path, "bf16", CPU)
    assert {p.dtype for p in model.parameters()} == {torch.float32}

    seen: list[torch.dtype] = []
    model.get_output_embeddings().register_forward_hook(lambda _m, _i, y: seen.append(y.dtype))
    recipe = Recipe(lr=1e-5, batch_size=8, steps=2, precision="bf16", weight_decay=0.0)
    models = Models(model, None, lambda: torch.autocast("cpu", dtype=torch.bfloat16))
    engine = Engine(models, GA(Retain()).terms(), recipe, 20, tiny.pad, GRU())
    before = weights(engine)
    assert engine.step(unlearning_loader(tiny).step(0)) is not None
    after = weights(engine)
    assert set(seen) == {torch.bfloat16}, "the forward pass must really run in bf16"
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    assert float((after != before).double().mean()) > 0.98
    # The same step on bf16 weights would have been lost for most of them.
    lost = before.bfloat16() + (after - before).bfloat16() == before.bfloat16()
    assert float(lost.double().mean()) > 0.5


# --- draws


def test_batches_run_across_the_ends_of_epochs() -> None:
    sampler = Sampler(seed=0, num_rows=20, batch_size=8)
    epochs = [[epoch for epoch, _ in sampler.step(step)] for step in range(5)]
    assert epochs == [[0] * 8, [0] * 8, [0] * 4 + [1] * 4, [1] * 8, [1] * 8]


@pytest.mark.parametrize("batch_size", [1, 8, 20, 33])
def test_an_epoch_visits_every_row_once_whatever_the_batch(batch_size: int) -> None:
    sampler = Sampler(seed=5, num_rows=20, batch_size=batch_size)
    visits = [visit for step in range(-(-60 // batch_size)) for visit in sampler.step(step)]
    orders = [[row for epoch, row in visits[:60] if epoch == e] for e in range(3)]
    assert [sorted(order) for order in orders] == [list(range(20))] * 3
    assert orders[0] != orders[1] != orders[2]
    assert visits[:60] == [v for s in range(3) for v in Sampler(5, 20, 20).step(s)]


def test_partners_depend_on_seed_epoch_and_row_alone() -> None:
    visits = [(epoch, row) for epoch in range(3) for row in range(20)]
    drawn = {v: Sampler(0, 20, 8, 40).retain_partner(*v) for v in visits}
    assert set(drawn.values()) <= set(range(40))
    again = Sampler(0, 20, 5, 40)
    assert drawn == {v: again.retain_partner(*v) for v in reversed(visits)}, "not of order or batch"
    by_epoch = [[drawn[epoch, row] for row in range(20)] for epoch in range(3)]
    assert by_epoch[0] != by_epoch[1] != by_epoch[2]
    assert len(set(by_epoch[0])) > 10, "a draw for each row"
    assert drawn != {v: Sampler(1, 20, 8, 40).retain_partner(*v) for v in visits}


def test_partners_are_drawn_from_all_retain_rows_alike() -> None:
    sampler = Sampler(0, 20, 8, 10)
    counts = [0] * 10
    for epoch in range(100):
        for row in range(20):
            counts[sampler.retain_partner(epoch, row)] += 1
    assert all(140 < count < 260 for count in counts)  # 200 each; 13 is one standard deviation


def test_seeds_give_other_orders() -> None:
    orders = {tuple(row for _, row in Sampler(seed, 20, 20).step(0)) for seed in range(10)}
    assert len(orders) == 10


def test_each_forget_row_comes_with_its_own_partner(tiny: Any) -> None:
    loader = unlearning_loader(tiny)
    splits = loader.step(3).splits
    visits = loader.sampler.step(3)
    assert splits["forget"] == [tiny.forget[row] for _, row in visits]
    assert splits["retain"] == [
        tiny.retain[loader.sampler.retain_partner(*visit)] for visit in visits
    ]
    assert "retain" not in StepLoader("forget", tiny.forget, 8, 0).step(0).splits


def test_the_kl_risk_has_no_direction_at_the_start() -> None:
    """Rounding noise in the gradient of KL(start ‖ start) must not be projected on."""
    space = GradientSpace([nn.Parameter(torch.zeros(2))])
    for scale, rectified in ((1e-8, False), (1e-3, True)):
        gradients = {
            "objective": [torch.tensor([1.0, -3.0])],
            "risk": [torch.tensor([0.0, 2.0 * scale])],
        }
        facts = GRU(gamma=1.0, risk="kl").rectify(gradients, (), {}, space).facts
        assert facts["rectified"] is rectified
