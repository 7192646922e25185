"""Models that see: image tokens through losses, probes, influence systems and whole runs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.planning import plan_run

from unlearn_runner.api import compose
from unlearn_runner.data.encode import collate, encode_rows
from unlearn_runner.data.rows import QA, Rows
from unlearn_runner.errors import ConfigError, DataError
from unlearn_runner.evaluation.probes.decoding import decode
from unlearn_runner.evaluation.probes.logprobs import probe
from unlearn_runner.evaluation.probes.packing import groups
from unlearn_runner.methods.losses.base import token_nll
from unlearn_runner.models.adapters.lora import LoRA
from unlearn_runner.models.forward import Models, blocks, hidden_states
from unlearn_runner.models.gradients import GradientSpace
from unlearn_runner.models.layer_groups import layer_groups
from unlearn_runner.models.load import (
    in_precision,
    load_frozen,
    load_tokenizer,
    new_model,
    save,
    train_tokenizer,
)
from unlearn_runner.pipeline.execute import Executor
from unlearn_runner.pipeline.results import flat, scores
from unlearn_runner.store.store import Store
from unlearn_runner.tracking.record import Record
from unlearn_runner.training.influence.risk import Risk

TINY = ("debug=tiny", "model=tiny_llava", "benchmark=pocket_vqa")
FEW = tuple(
    f"benchmark.source.{split}={n}"
    for split, n in (("pretrain", 24), ("train", 20), ("validation", 6), ("test", 8))
)
HERE = ("parallel.threads=1", "parallel.device=cpu")
NOWHERE = torch.device("cpu")


class Bench:
    """A tiny model, and rows of drawn pictures in its tokens."""

    def __init__(self) -> None:
        run = compose(*TINY, *FEW)
        made: Any = run.model.pretraining
        self.template, self.rows = run.model.template, run.benchmark.splits().full
        texts = [row.rendered(None, self.template).text for row in self.rows]
        self.tokenizer = train_tokenizer(texts, made.vocab_size, made.shape.special_tokens)
        self.model = in_precision(new_model(made.shape, self.tokenizer, 1), "float64").eval()
        self.encoded = encode_rows(self.tokenizer, self.template, self.rows, 128)
        self.pad = self.tokenizer.pad_token_id


@pytest.fixture(scope="module")
def bench() -> Bench:
    return Bench()


@pytest.fixture(autouse=True)
def _threads(one_thread: None) -> None: ...


def plain_losses(bench: Bench, row: Any) -> torch.Tensor:
    """NLL of a row's scored tokens by transformers alone: processor-like input, no narrowing."""
    values = torch.from_numpy(row.image.values().copy())[None]
    logits = bench.model(input_ids=torch.tensor([row.ids]), pixel_values=values).logits[0]
    logp = logits.log_softmax(-1)[:-1].gather(1, torch.tensor(row.ids[1:])[:, None])[:, 0]
    return -logp[row.prompt_length - 1 :]


def test_a_picture_is_as_many_tokens_as_it_has_patches(bench: Bench) -> None:
    token = bench.tokenizer.convert_tokens_to_ids("<image>")
    assert bench.model.config.image_token_id == token
    for row, encoded in zip(bench.rows, bench.encoded, strict=True):
        assert encoded.ids.count(token) == 16 == encoded.ids[:16].count(token)
        scored = bench.tokenizer.decode(encoded.ids[encoded.prompt_length : -1])
        assert scored.strip() == row.answer


def test_losses_are_those_of_a_plain_forward_pass(bench: Bench) -> None:
    """A padded batch of rows, some without a picture, in float64."""
    text = encode_rows(bench.tokenizer, bench.template, Rows("t", (QA("Is it?", "yes"),)), 128)
    chosen = [*bench.encoded[:3], *text, *bench.encoded[3:5]]
    batch = collate(chosen, bench.pad, NOWHERE)
    assert batch.images["pixel_values"].shape == (5, 3, 32, 32)
    found = token_nll(Models(bench.model, None, torch.no_grad), batch)
    shown = [plain_losses(bench, row) for row in chosen if row.image is not None]
    lengths = [row.num_labels for row in chosen]
    parts = found.split(lengths)
    for mine, theirs in zip((*parts[:3], *parts[4:]), shown, strict=True):
        assert torch.allclose(mine, theirs, atol=1e-12)
    other = collate([*chosen[1:2], *chosen[1:]], bench.pad, NOWHERE)
    swapped = token_nll(Models(bench.model, None, torch.no_grad), other)
    assert torch.allclose(swapped[: lengths[1]], shown[1], atol=1e-12), "each has its own picture"


def test_probes_see_each_rows_own_picture(bench: Bench) -> None:
    """Packed answers and grown caches, where two rows differ in the picture alone."""
    rows = []
    for i in (0, 1):
        same: Any = next(r for r in bench.rows if r.answer in ("yes", "no"))
        one = replace(same, image=bench.rows[i].picture)
        rows += [replace(one, answer=answer) for answer in ("yes", "no", "circle")]
    encoded = encode_rows(bench.tokenizer, bench.template, Rows("r", tuple(rows)), 128)
    assert [len(group) for group in groups(encoded)] == [3, 3]
    stats = probe(bench.model, encoded, bench.pad, 8, "probe")
    for row, one in zip(encoded, stats, strict=True):
        expected = -plain_losses(bench, row)
        assert torch.allclose(torch.from_numpy(one.logprob).double(), expected, atol=1e-6)
    prompts = [row.ids[: row.prompt_length] for row in bench.encoded[:4]]
    images = [row.image for row in bench.encoded[:4]]
    given = ([()] * 4, [6, 3, 6, 5], [0])
    together = decode(bench.model, bench.pad, prompts, *given, images=images)
    for i, tokens in enumerate(together):
        assert images[i] is not None
        theirs = bench.model.generate(
            torch.tensor([prompts[i]]),
            pixel_values=torch.from_numpy(images[i].values().copy())[None],
            max_new_tokens=given[1][i],
            do_sample=False,
            eos_token_id=[0],
            pad_token_id=bench.pad,
        )[0, len(prompts[i]) :].tolist()
        assert tokens == [token for token in theirs if token != 0]


def test_the_text_part_is_what_is_adapted_and_counted(bench: Bench) -> None:
    assert blocks(bench.model) is bench.model.model.language_model.layers
    batch = collate(bench.encoded[:2], bench.pad, NOWHERE)
    assert hidden_states(bench.model, batch, 1).shape == (len(batch.labels), 32)
    names = [name for name, _ in bench.model.named_parameters()]
    groups = dict(zip(names, layer_groups(names), strict=True))
    assert {g for n, g in groups.items() if "vision" in n or "projector" in n} == {"embed"}
    adapted = LoRA(rank=2, dropout=0.0).attach(Bench().model, 0)
    trained = [name for name, p in adapted.named_parameters() if p.requires_grad]
    assert len(trained) == 14
    assert all(".language_model." in name for name in trained)


def test_products_with_the_hessian_agree(bench: Bench) -> None:
    """Of an adapter's risk over answers about pictures: exact against central differences."""
    model = LoRA(rank=2, dropout=0.0).attach(Bench().model, 0)
    with torch.no_grad():
        for parameter in filter(lambda p: p.requires_grad, model.parameters()):
            parameter.add_(0.05)
    space = GradientSpace(model.named_parameters())
    models = Models(model.eval(), None, torch.enable_grad)
    risk, rows = Risk(models, space, "token", 3, bench.pad), bench.encoded[:6]
    torch.manual_seed(0)
    v: Any = [torch.randn_like(p) for p in space.parameters]
    exact, near, gauss = (
        risk.product(kind, rows, risk.size(rows), v)
        for kind in ("double", "difference", "gauss_newton")
    )
    apart = space.add(space.copy(near), exact, -1.0)
    assert space.norm(apart) < 1e-6 * space.norm(exact)
    assert space.dots((v, gauss))[0] > 0


def test_a_folder_says_how_it_sees(bench: Bench, tmp_path: Path) -> None:
    save(bench.model.float(), bench.tokenizer, tmp_path)
    tokenizer, model = load_tokenizer(tmp_path), load_frozen(tmp_path, "float64", NOWHERE)
    bench.model.double()
    assert tokenizer.images == bench.tokenizer.images
    batch = collate(
        encode_rows(tokenizer, bench.template, bench.rows.first(2), 128), bench.pad, NOWHERE
    )
    here, there = (token_nll(Models(m, None, torch.no_grad), batch) for m in (bench.model, model))
    assert torch.allclose(here, there, atol=1e-5)
    settings = json.loads((tmp_path / "processor_config.json").read_text())
    for wrong in ({"patch_size": 0}, {"vision_feature_select_strategy": "full"}):
        (tmp_path / "processor_config.json").write_text(json.dumps(settings | wrong))
        with pytest.raises(DataError, match="sees in a way that is not known"):
            load_tokenizer(tmp_path)
    (tmp_path / "processor_config.json").write_text(json.dumps({"processor_class": "Other"}))
    blind = load_tokenizer(tmp_path)
    with pytest.raises(DataError, match="the model reads text alone"):
        encode_rows(blind, bench.template, bench.rows, 128)
    given = ("benchmark=pocket_vqa", *FEW, "model=hf", f"model.path={tmp_path}")
    with pytest.raises(ConfigError, match=r"no processor_config\.json of LLaVA's kind"):
        plan_run(compose(*given))
    (tmp_path / "processor_config.json").write_text(json.dumps(settings))
    assert plan_run(compose(*given)).stages


def test_transformers_own_processor_gives_the_same(bench: Bench, tmp_path: Path) -> None:
    """Token ids and pixel values of a saved folder, by `AutoProcessor`."""
    Image = pytest.importorskip("PIL.Image")
    from transformers import AutoProcessor

    save(bench.model.float(), bench.tokenizer, tmp_path)
    bench.model.double()
    processor = AutoProcessor.from_pretrained(tmp_path)
    for row, encoded in zip(bench.rows.first(4), bench.encoded, strict=False):
        assert row.picture is not None
        assert encoded.image is not None
        text = row.rendered(None, bench.template).text
        theirs = processor(
            images=Image.fromarray(row.picture.pixels()), text=text, return_tensors="pt"
        )
        assert tuple(theirs["input_ids"][0].tolist()) == encoded.ids[:-1], "but for the end"
        mine = torch.from_numpy(encoded.image.values().copy())
        assert torch.allclose(theirs["pixel_values"][0], mine, atol=1e-6)


@pytest.mark.parametrize(
    ("overrides", "problem", "fix"),
    [
        (("model=pocket",), "the model reads text alone", "model=tiny_llava"),
        (("attack=few_shot",), "tells other rows as text", "attack=paraphrase"),
        (("benchmark=spubench",), "data_dir must be set", "benchmark.data_dir=FOLDER"),
        (("model.shape.patch_size=7",), "must be a multiple", "model.shape.image_size=35"),
    ],
)
def test_what_is_refused(overrides: tuple[str, ...], problem: str, fix: str) -> None:
    with pytest.raises(ConfigError) as refused:
        plan_run(compose(*TINY, *overrides))
    assert problem in refused.value.problem
    assert fix in (refused.value.fix or "")


def test_wrong_answers_are_corrected_by_influence(own_threads: None, tmp_path: Path) -> None:
    given = ("method=influence", "method.task=correct_response", "method.hvp=gauss_newton")
    given += ("target.adapter=lora", "target.adapter.dropout=0", "method.iterations=2")
    given += ("method.rows=8", "method.held_rows=2", "train.batch_size=8")
    found, store = compose(*TINY, *FEW, *HERE, *given), Store(tmp_path / "store")
    plan = plan_run(found)
    done = Executor(store, Record(tmp_path / "run"), found.parallel).run(plan)
    assert all(item.outcome == "completed" for item in done)
    numbers = flat(scores(plan, store, done))
    for name in ("test.accuracy", "test.accuracy_average", "test.yes_no_f1", "test.ranked"):
        assert numbers[name] is not None
    assert numbers["forget.probability"] is not None
    solved = next(item for item in done if item.stage.label == "influence")
    certificate = solved.stage.facts(store.path(solved.stage))
    assert (certificate["n"], certificate["m"]) == (20, 8)
    assert 0 < certificate["residual"] < 1


@pytest.mark.long
def test_two_ranks_unlearn_what_one_does(tmp_path: Path) -> None:
    """NPO with GRU on questions about pictures; whole models, and shards."""
    found = {}
    options = ["method=npo", "rectifier=gru", "adapter=lora", "adapter.dropout=0"]
    options += ["train.precision=float64", "target.train.precision=float64", "train.lr=1e-2"]
    for engine in ("single", "ddp", "fsdp2"):
        parallel = [f"parallel={engine}", *(["parallel.ranks=2"] if engine != "single" else [])]
        places = [f"output_dir={tmp_path / engine}", "name=run", *parallel, *HERE]
        command = [sys.executable, "-m", "unlearn_runner.run", *TINY, *FEW, *options, *places]
        done = subprocess.run(command, env={**os.environ}, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        path = tmp_path / engine / "runs" / "run" / "results.json"
        found[engine] = json.loads(path.read_text())["scores"]
    alone = found["single"]
    assert alone["forget.probability"] != alone["target.forget.probability"]
    for engine in ("ddp", "fsdp2"):
        assert found[engine].keys() == alone.keys()
        for name, value in alone.items():
            expected = None if value is None else pytest.approx(value, rel=1e-5)
            assert found[engine][name] == expected, (engine, name)
