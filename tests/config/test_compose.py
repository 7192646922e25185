"""Every file of `conf/` composes, builds and plans; without torch, and with names to find again."""

from __future__ import annotations

import dataclasses
import functools
import json
import operator
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from copy import deepcopy
from importlib.util import find_spec
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from helpers.books import write_books
from helpers.movielens import write_lastfm, write_movielens
from helpers.pictures import write_clear, write_pictures
from helpers.planning import plan_run
from helpers.texts import write_texts
from mistakes import MODELS
from omegaconf import OmegaConf

from unlearn_runner.config import names
from unlearn_runner.config.command_line import parse
from unlearn_runner.config.compose import compose
from unlearn_runner.config.groups import CONF, groups
from unlearn_runner.config.origins import config_sources
from unlearn_runner.config.root import Run, validate
from unlearn_runner.errors import ConfigError
from unlearn_runner.pipeline.job import ComposedJob, plan_job, refuse_other_configuration
from unlearn_runner.pipeline.plan import Plan
from unlearn_runner.sweeps.grid import Grid

WITHOUT = [] if find_spec("bitsandbytes") else ["qlora"]
"""Options whose extra is not installed: composing them says so."""
OPTIONS = [(g, name) for g, names in groups().items() for name in names if name not in WITHOUT]
COMPONENTS = ("model", "benchmark", "method", "rectifier", "adapter", "parallel", "tracker")
COMPONENTS += ("train", "attack")
CORRECTING = "method=llmeraser/correct"
"""Of benchmarks that have other versions of their forget rows."""
METHODS = [name for name in groups()["method"] if f"method={name}" != CORRECTING]
RECTIFIERS = groups()["rectifier"]
ONE_SHOT = ("task_vector", "tru", "influence", "sisa", "winu")
PROVIDED = {
    "npo": {"start logprobs"},
    "tnpo": {"start logprobs"},
    "wtnpo": {"start logprobs"},
    "dpo": {"start logprobs", "alternative logprobs"},
    "altpo": {"start logprobs", "alternative logprobs", "alternates"},
    "task_vector": {"fine-tune forget10"},
    "influence": {"influence"},
    "winu": {"influence"},
    "tru": {
        f"fine-tune forget10{what}[{start}:{start + 10}]"
        for what in ("", " without ")
        for start in (0, 10, 20, 30)
    },
}
ADAPTERS = [name for name in groups()["adapter"] if name not in WITHOUT]

STAGES = [
    "base",
    "target",
    "retain_model",
    "unlearn",
    "evaluate target",
    "evaluate retain_model",
    "evaluate unlearned",
    "score target",
    "score retain_model",
    "score unlearned",
]

WITHOUT_RETAIN_MODEL = [label for label in STAGES if "retain_model" not in label]

PAIRS = [
    (method, rectifier)
    for method, rectifier in product(METHODS, RECTIFIERS)
    if rectifier == "none" or method not in ONE_SHOT  # they refuse any other, see `mistakes`
]
SOME = [
    (method, rectifier)
    for method, rectifier in PAIRS
    if rectifier in ("none", "gru", RECTIFIERS[METHODS.index(method) % len(RECTIFIERS)])
]
"""By default each method without and with GRU, and with another one, so that all occur."""


def provided(label: str) -> bool:
    """Whether a stage is there because the method, an adapter or an attack asks for it."""
    ends = (" logprobs", "alternates", "fisher", "influence", " adapter")
    return label.endswith(ends) or label.startswith(("fine-tune ", "attack ", "evaluate attacked "))


@functools.cache
def composed(*overrides: str) -> dict[str, Any]:
    """The configuration of a command, plain and complete."""
    config = compose(overrides).config
    validate(config)
    return config


@functools.cache
@functools.lru_cache(maxsize=64)
def planned(*overrides: str) -> Plan:
    """The plan of a command."""
    return plan_run(validate(composed(*overrides)))


def command(folder: Path, *arguments: str, **env: str) -> Any:
    """Runs `unlearn` in a folder."""
    return subprocess.run(
        [sys.executable, "-m", "unlearn_runner.run", *arguments],
        cwd=folder,
        env={**os.environ, "COLUMNS": "250", **env},
        capture_output=True,
        text=True,
        timeout=1800,
    )


def over_texts(*overrides: str) -> bool:
    """Whether a command's benchmark is over texts, or trains on them."""
    benchmark = composed(*overrides)["benchmark"]
    both = (benchmark, benchmark.get("training") or {})
    return any(part.get("_target_", "").endswith("TextBenchmark") for part in both)


def compares(*overrides: str) -> bool:
    """Whether one of a command's metrics compares with a retain model."""
    benchmark = composed(*overrides)["benchmark"]
    return over_texts(*overrides) <= ("privleak" in benchmark["metric"])


def needs_tofu(*overrides: str) -> bool:
    """Whether a command reads TOFU's files, which are no part of the repository."""
    return composed(*overrides)["benchmark"]["source"]["_target_"].endswith("Tofu")


def completed(override: str, tofu: Path | str, folder: Path) -> list[str]:
    """An option with what it asks the user or the hub for: TOFU's files, the folder of a model."""
    overrides = [override]
    if needs_tofu(override):
        overrides.append(f"benchmark.data_dir={tofu}")
    if composed(override)["benchmark"]["source"]["_target_"].endswith("MovieLens"):
        overrides.append(f"benchmark.data_dir={write_movielens(folder)}")
    if composed(override)["benchmark"]["source"]["_target_"].endswith("LastFM"):
        overrides.append(f"benchmark.data_dir={write_lastfm(folder)}")
    if composed(override)["benchmark"]["source"]["_target_"].endswith("BookCrossing"):
        overrides.append(f"benchmark.data_dir={write_books(folder)}")
    source = composed(override)["benchmark"]["source"]["_target_"]
    if source.endswith("Clear"):
        overrides.append(f"benchmark.data_dir={write_clear(folder)}")
    if source.endswith("Annotations"):
        overrides.append(f"benchmark.data_dir={write_pictures(folder)}")
    if override.startswith("benchmark=") and "data.images" in source:
        overrides.append("model=tiny_llava")  # others read text alone
    if override == CORRECTING:
        overrides.append("benchmark=pocket_rec")
    if over_texts(override) and "pocket" not in override:
        overrides.append(f"benchmark.data_dir={write_texts(folder)}")
        if composed(override)["benchmark"].get("training"):
            overrides.append(f"benchmark.training.data_dir={folder}")
    if composed(override)["retain_model"]["path"] is not None:
        overrides.append(f"retain_model.path={folder}")
    target = composed(override)["target"]["path"] is not None  # of the hub
    if override in ASKED_ALONE:
        overrides += [f"benchmark.data_dir={write_texts(folder)}", f"evaluate.path={folder}"]
    given = ("model=hf", "model=chat", "model=smollm2", "sweep=demo_pretrained")
    if target or override in (*given, *ASKED_ALONE):
        for name, text in MODELS["model"].items():
            (folder / name).write_text(text)
        (folder / "chat_template.jinja").write_text("{{ messages }}")
        place = "target" if target else "evaluate" if override in ASKED_ALONE else "model"
        overrides.append(f"{place}.path={folder}")
        if target:
            overrides.append("target.revision=null")
    return list(dict.fromkeys(overrides))


def plan_option(override: str, tofu: Path | str, folder: Path) -> Plan:
    """The plan of an option, completed; what it asks for is put into what was composed once."""
    first, *words = completed(override, tofu, folder)
    values = [word.split("=", 1) for word in words if "." in word.split("=", 1)[0]]
    config = deepcopy(composed(first, *(w for w in words if "." not in w.split("=", 1)[0])))
    for key, value in values:
        *parts, last = key.split(".")
        node = functools.reduce(operator.getitem, parts, config)
        node[last] = None if value == "null" else value
    return plan_run(validate(config))


ASKED_ALONE = ("benchmark=mmlu", "benchmark=wmdp")
"""Benchmarks without rows to train on."""
NO_RETAIN_MODEL = ("benchmark=pocket_choices",)
"""Benchmarks of which no metric compares with the retain model."""


PRETRAINED = [name for name in groups()["model"] if composed(f"model={name}")["model"].get("path")]
"""The models that the hub has."""


# --- every file


def test_every_group_has_options() -> None:
    assert set(COMPONENTS) < set(groups())
    assert all(groups()[group] for group in COMPONENTS)


LOOK = """
import gc; gc.disable()  # looking for cycles takes a sixth of the time
import json, sys
sys.path[:0] = [sys.argv[1], sys.argv[1] + "/.."]
from pathlib import Path
from test_compose import OPTIONS, plan_option
tofu, folder = sys.argv[2], Path(sys.argv[3])
plans = {}
for group, name in OPTIONS:
    option = f"{group}={name}"
    stages = plan_option(option, tofu, folder).stages
    plans[option] = [(s.label, s.key, [read.key for read in s.inputs]) for s in stages]
heavy = [m for m in ("torch", "transformers", "accelerate", "datasets") if m in sys.modules]
print(json.dumps({"plans": plans, "heavy": heavy}))
"""


@pytest.fixture(scope="module")
def looked(tofu_files: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Label, key and keys of the inputs of every stage, by option; and what was loaded for it."""
    folder = tmp_path_factory.mktemp("every")
    arguments = [str(Path(__file__).parent), str(tofu_files), str(folder)]
    done = subprocess.run(
        [sys.executable, "-c", LOOK, *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_composing_building_and_planning_load_neither_torch_nor_transformers(looked: Any) -> None:
    assert looked["heavy"] == []


@pytest.mark.parametrize(("group", "name"), OPTIONS)
def test_every_option_composes_builds_and_plans(group: str, name: str, looked: Any) -> None:
    stages = looked["plans"][f"{group}={name}"]
    along = "score along"  # where the option says evaluate.every
    labels = [label for label, *_ in stages if not provided(label) and label != along]
    if f"{group}={name}" in ASKED_ALONE:
        assert labels == ["model", "evaluate model", "score model"]
        return
    if f"{group}={name}" in NO_RETAIN_MODEL:
        assert labels == WITHOUT_RETAIN_MODEL
        return
    given = labels[0] == "target"  # it comes before the base, which only the retain model needs
    expected = STAGES
    if over_texts(f"{group}={name}"):
        # A target and a retain model that are one folder are one stage.
        both = compares(f"{group}={name}") and not given
        expected = STAGES if both else WITHOUT_RETAIN_MODEL[given:]
        if "loku/tdec" in name:  # what ends unlearning may be a score of the target
            labels, expected = sorted(labels), sorted(expected)
    elif given:
        expected = ["target", "base", *STAGES[2:]]
    assert labels == expected
    assert len({key for _, key, _ in stages}) == len(stages)
    known: set[str] = set()
    for _, key, read in stages:  # each finds what it reads
        assert set(read) <= known
        known.add(key)


@pytest.mark.parametrize(
    ("method", "rectifier"),
    [p if p in SOME else pytest.param(*p, marks=pytest.mark.long) for p in PAIRS],
)
def test_every_method_goes_with_every_rectifier(method: str, rectifier: str) -> None:
    stages = planned("debug=tiny", f"method={method}", f"rectifier={rectifier}").stages
    labels = [stage.label for stage in stages]
    assert {label for label in labels if provided(label)} == PROVIDED.get(
        method.removeprefix("geffect/"), set()
    )
    assert labels.index("unlearn") == labels.index("evaluate target") - 1


def test_methods_and_rectifiers_share_all_but_unlearning() -> None:
    def keys(method: str, rectifier: str) -> dict[str, str]:
        stages = planned("debug=tiny", f"method={method}", f"rectifier={rectifier}").stages
        return {stage.label: stage.key for stage in stages}

    assert {rectifier for _, rectifier in SOME} == set(RECTIFIERS)
    every = [keys(*pair) for pair in SOME]
    for label in STAGES:
        differ = len({found[label] for found in every})
        assert differ == (len(every) if "unlearn" in label else 1), label


@pytest.mark.parametrize(
    "adapter",
    [n if n in ("lora", "fila") else pytest.param(n, marks=pytest.mark.long) for n in ADAPTERS],
)
def test_an_adapter_renames_what_is_unlearned_and_nothing_else(adapter: str) -> None:
    # The other adapters have every method, in the long tests.
    methods = {"lora": METHODS[::3], "fila": ["npo", "gd"]}.get(adapter, METHODS)
    for method in (m for m in methods if m not in ONE_SHOT):  # which take none
        before, after = (
            {s.label: s.key for s in planned("debug=tiny", f"method={method}", *more).stages}
            for more in ((), (f"adapter={adapter}",))
        )
        changed = {label for label in before if before[label] != after[label]}
        asked = {"start logprobs", "alternative logprobs"} if adapter == "qlora" else set()
        expected = set(UNLEARNED) | asked & set(before)  # of weights as they are stored
        assert changed == (set() if adapter == "none" else expected), method
        assert set(after) - set(before) == ({"fisher"} if adapter == "fila" else set())


def unlisted(node: Any, built: Any, key: str = "") -> Iterator[str]:
    """Yields the fields of a built object that its configuration does not list."""
    if isinstance(built, Mapping):
        for name, value in built.items():
            yield from unlisted(node[name], value, f"{key}.{name}")
    if dataclasses.is_dataclass(built):
        for item in dataclasses.fields(built):
            if not isinstance(node, Mapping) or item.name not in node:
                yield f"{key}.{item.name}"
            else:
                yield from unlisted(
                    node[item.name], getattr(built, item.name), f"{key}.{item.name}"
                )


@pytest.mark.parametrize(("group", "name"), [o for o in OPTIONS if o[0] in COMPONENTS])
def test_a_validated_configuration_lists_every_field_and_builds_the_same(
    group: str, name: str
) -> None:
    config = dict(composed(f"{group}={name}"))
    run = validate(config)
    assert list(unlisted(config, run)) == []
    assert set(config) == {item.name for item in dataclasses.fields(Run)}
    again = json.loads(json.dumps(config))
    assert validate(dict(again)) == run
    assert names.identity(config) == names.identity(again)


def test_the_root_file_lists_every_field_of_its_own() -> None:
    main: Any = OmegaConf.load(CONF / "config.yaml")
    groups_of_run = {next(iter(entry)) for entry in main.defaults if entry != "_self_"}
    listed = {*main} | groups_of_run
    assert {item.name for item in dataclasses.fields(Run)} <= listed


@pytest.fixture
def bare(tmp_path: Path) -> tuple[Path, ...]:
    """A folder of options that name a class and nothing else."""
    for group, target in {
        "method": "methods.npo.NPO",
        "rectifier": "rectifiers.gru.GRU",
        "parallel": "distributed.single.Single",
    }.items():
        (tmp_path / group).mkdir()
        (tmp_path / group / "bare.yaml").write_text(f"_target_: unlearn_runner.{target}\n")
    return (tmp_path,)


BARE = ("method=bare", "rectifier=bare", "parallel=bare")


def test_a_field_that_no_file_lists_is_set_like_any_other(bare: tuple[Path, ...]) -> None:
    settings = ("method.beta=0.3", "method.retain.weight=2", "+rectifier.tau=1", "seed=3")
    listed = validate(compose(("method=npo", "rectifier=gru", *settings)).config)
    assert validate(compose((*BARE, *settings), bare).config) == listed
    run: Any = validate(compose((*BARE, "method.retain={loss: kl, weight: 2}"), bare).config)
    assert (run.method.retain.loss, run.method.retain.weight) == ("kl", 2.0)


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("method.bta=1", r"method\.bta is not a setting of NPO; known here: .*beta"),
        ("method.beta=-1", r"method\.beta=-1 is not allowed; allowed: a number > 0"),
        ("method.retain.los=kl", r"method\.retain\.los is not a setting of Retain"),
        ("method.retain.loss=kll", r"method\.retain\.loss=kll is not allowed; allowed: none or"),
        ("rectifier.gamma=true", r"rectifier\.gamma=true is not allowed"),
        ("nothing.at.all=1", r"nothing\.at\.all is not a setting; known here: model"),
    ],
)
def test_a_field_that_no_file_lists_is_checked_like_any_other(
    bare: tuple[Path, ...], override: str, says: str
) -> None:
    with pytest.raises(ConfigError, match=says):
        validate(compose((*BARE, override), bare).config)


def test_a_sweep_and_its_plan_know_fields_that_no_file_lists(bare: tuple[Path, ...]) -> None:
    with Grid(("-m", *BARE, "method.beta=0.1,0.2")[1:], bare).opened() as grid:
        runs: list[Any] = [validate(grid.compose(point).config) for point in grid.combinations()]
    assert [run.method.beta for run in runs] == [0.1, 0.2]
    found = config_sources([*BARE, "method.beta=0.2"], bare)
    assert [(given.value, given.by) for given in found["method.beta"]] == [(0.2, "command line")]
    assert "method.retain.weight" not in found


ALSO = "sweep.also=[{method: npo, adapter: lora, train.lr: 1e-3}, {train: {lr: 0.1}}]"


@pytest.mark.parametrize(
    ("more", "wanted"),
    [
        ((), [["method='npo'", "adapter='lora'", "train.lr=0.001"], ["train.lr=0.1"]]),
        (("train.lr=1",), [["method=npo", "adapter=lora"], []]),  # a fixed value comes first
        (("seed=1,2",), [["method=npo", "adapter=lora", "train.lr=0.001"], ["train.lr=0.1"]]),
    ],
)
def test_further_jobs_stand_beside_the_grid(more: tuple[str, ...], wanted: list[list[str]]) -> None:
    with Grid(("rectifier=none,gru", ALSO, *more)).opened() as grid:
        jobs = grid.combinations()
        lora = validate(grid.compose(jobs[-2]).config)
    wanted = [[text.replace("'", "") for text in job] for job in wanted]
    assert jobs[-2:] == wanted
    assert len(jobs) == 2 * (2 if more == ("seed=1,2",) else 1) + 2
    assert type(lora.adapter).__name__ == "LoRA"


def test_the_demo_is_two_methods_without_and_with_gru_and_one_lora() -> None:
    with Grid(("sweep=demo",)).opened() as grid:
        found = [grid.compose(job) for job in grid.combinations()]
    groups = ("method", "rectifier", "adapter")
    chosen = {tuple(one.choices[group] for group in groups) for one in found}
    wanted = {(m, r, "none") for m in ("ga", "npo") for r in ("none", "gru")}
    assert chosen == wanted | {("npo", "gru", "lora")}
    runs = [validate(one.config) for one in found]
    assert len({run.train.clip for run in runs}) == 1
    assert len({run.evaluate.every for run in runs}) == 1


@pytest.mark.parametrize("group", ["debug", "experiment"])
def test_null_takes_back_what_was_chosen_before(group: str) -> None:
    option = groups()[group][-1]
    assert parse([f"{group}={option}", "seed=1", f"{group}=null"]).words == ["seed=1"]
    assert parse([f"{group}={option}", "seed=1"]).words == [
        f"{group}={option}",
        "seed=1",
    ]


# --- without torch

OFFLINE = """
import json, socket, sys
sys.path[:0] = [sys.argv[1], sys.argv[1] + "/.."]
from pathlib import Path
from test_compose import PRETRAINED, planned

def refuse(*_, **__):
    raise AssertionError("a plan asked the network")

socket.socket.connect = socket.getaddrinfo = socket.create_connection = refuse
found = {}
for name in PRETRAINED:
    base = planned(f"model={name}").stages[0]
    found[name] = [base.reads(), base.outside() is not None]
print(json.dumps(found))
"""


def test_planning_with_a_model_of_the_hub_asks_no_network_and_pins_a_commit(
    tmp_path: Path,
) -> None:
    env = {name: value for name, value in os.environ.items() if name != "HF_HUB_OFFLINE"}
    looked = subprocess.run(
        [sys.executable, "-c", OFFLINE, str(Path(__file__).parent)],
        capture_output=True,
        text=True,
        check=True,
        env={**env, "HF_HOME": str(tmp_path)},
    )
    found = json.loads(looked.stdout)
    assert len(found) >= 9
    assert list(tmp_path.iterdir()) == []
    for name, (reads, there) in found.items():
        model = composed(f"model={name}")["model"]
        assert re.fullmatch(r"[0-9a-f]{40}", model["revision"]), name
        assert reads == f"hub {model['path']} at {model['revision'][:12]}"
        assert not there


def test_published_settings_name_the_experiment_that_set_them(
    tofu_files: Path, tmp_path: Path
) -> None:
    """Model < experiment < command line: what GRU's paper and code give, and what one overrides."""
    tofu = f"benchmark.data_dir={tofu_files}"
    for name, lr in (("phi", "2e-05"), ("llama2", "1e-05")):
        option = f"experiment=gru/tofu_{name}"
        done = command(tmp_path, option, tofu, "rectifier.gamma=0.99", "plan_only=true")
        assert (done.returncode, done.stderr) == (0, "")
        rows = [[cell.strip() for cell in line.split("│")] for line in done.stdout.splitlines()]
        by_key = {row[1]: tuple(row[2:4]) for row in rows if len(row) > 5}
        mine = f"experiment/gru/tofu_{name}"
        assert by_key["train.lr"] == by_key["target.train.lr"] == (lr, mine)
        assert by_key["train.batch_size"] == ("32", mine)
        assert by_key["train.epochs"] == ("5.0", mine)
        assert by_key["method.beta"] == ("0.1", mine)
        assert by_key["rectifier.gamma"] == ("0.99", "command line")
        assert by_key["benchmark.compat"] == ("locuslab", mine)
        assert by_key["train.precision"][1].startswith("model/")
        # floor(epochs * rows / 32): the step counts of the published code.
        recipe = validate(composed(option, tofu)).train
        assert [recipe.num_steps(rows) for rows in (40, 200, 400)] == [6, 31, 62]


# --- at once

LOADED = """
import sys
from unlearn_runner.run import main
code = main()
heavy = ("torch", "transformers", "accelerate", "datasets", "pandas", "hydra", "pydantic")
print(code, *(name for name in heavy if name in sys.modules))
"""
QUICK = {
    "--help": "0",
    "method=npo --help": "0 pydantic",
    "--version": "0",
    "methd=ga": "2 hydra pydantic",
    "method=npoo": "2 hydra",
    "train.lrr=1": "2 hydra pydantic",
    "rectifier.gamma=2": "2 hydra pydantic",
    "seed=1,2": "2 hydra",
}


@pytest.mark.parametrize("argument", QUICK)
def test_help_and_usage_errors_load_no_more_than_they_need(argument: str, tmp_path: Path) -> None:
    """What takes time is loading; `benchmarks/startup.py` has the seconds."""
    done = subprocess.run(
        [sys.executable, "-c", LOADED, *argument.split()],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    code, *loaded = done.stdout.splitlines()[-1].split()
    expected, *allowed = QUICK[argument].split()
    assert code == expected, done.stderr
    assert {*loaded} <= {*allowed}


def test_help_lists_every_option(tmp_path: Path) -> None:
    said = command(tmp_path, "--help").stdout
    rows = {words[0]: set(words[1:]) for line in said.splitlines() if (words := line.split())}
    for group, name in OPTIONS:
        assert name in rows[group]


# --- the plan


def test_plan_only_lists_stages_with_keys_and_writes_nothing(tmp_path: Path) -> None:
    overrides = ("debug=tiny", "method=npo", "rectifier=none")
    done = command(tmp_path, *overrides, "plan_only=true", f"output_dir={tmp_path / 'out'}")
    assert (done.returncode, done.stderr) == (0, "")
    assert list(tmp_path.iterdir()) == []
    assert "runs/pocket-npo-none,debug=tiny" in done.stdout
    stages_part = done.stdout.partition("\nsettings")[0]
    rows = [[cell.strip() for cell in line.split("│")] for line in stages_part.splitlines()]
    listed = [(row[1], row[2], row[3]) for row in rows if len(row) > 4]
    stages = planned(*overrides).stages
    assert listed == [(stage.label, f"{stage.kind}/{stage.key}", "no") for stage in stages]
    assert "start logprobs" in [label for label, _, _ in listed]


def test_locuslab_sizes_limit_every_view_to_300_rows(tofu_files: Path) -> None:
    tofu = ("benchmark=tofu", f"benchmark.data_dir={tofu_files}")

    def sizes(*overrides: str) -> dict[str, int]:
        (stage,) = [s for s in planned(*tofu, *overrides).stages if s.label == "evaluate unlearned"]
        return {name: len(rows) for name, rows in stage.evaluator.views.items()}  # type: ignore

    facts = {"real_authors": 100, "world_facts": 117}
    assert sizes() == {"forget": 400, "retain": 400, **facts}
    assert sizes("benchmark.compat=locuslab") == {"forget": 300, "retain": 300, **facts}
    run = validate(composed(*tofu, "benchmark.compat=locuslab"))
    assert run.benchmark.generation.max_length == 200


@pytest.mark.parametrize(
    ("forget", "rows", "retain"), [("forget01", 40, 3960), ("forget05", 200, 3800)]
)
def test_the_forget_split_decides_what_is_retained(
    forget: str, rows: int, retain: int, tofu_files: Path
) -> None:
    stages = planned(
        "benchmark=tofu",
        f"benchmark.data_dir={tofu_files}",
        f"benchmark.forget={forget}",
        "model.rehearse=false",
    ).stages
    by_label: dict[str, Any] = {stage.label: stage for stage in stages}
    assert len(by_label["target"].rows) == 4000
    assert len(by_label["retain_model"].rows) == retain
    assert (len(by_label["unlearn"].forget), len(by_label["unlearn"].retain)) == (rows, retain)
    assert len(by_label["evaluate unlearned"].evaluator.views["forget"]) == rows


# --- what a key depends on

INERT = (
    "train.micro_batch=4",
    "target.train.micro_batch=4",
    "model.pretrain.checkpoint_every=7",
    "train.checkpoint_every=null",
    "train.gradient_checkpointing=true",
    "evaluate.batch_size=3",
    "parallel.threads=1",
    "parallel.device=cpu",
    "name=other",
    "store=elsewhere",
    "output_dir=elsewhere",
    "overwrite=true",
    "plan_only=true",
)


@pytest.mark.parametrize("override", INERT)
def test_an_inert_setting_changes_no_key_no_name_and_no_identity(override: str) -> None:
    assert composed(override) != composed()
    assert [s.key for s in planned(override).stages] == [s.key for s in planned().stages]
    assert names.derive([override], CHOICES) == names.derive([], CHOICES)
    assert names.identity(composed(override)) == names.identity(composed())


TARGETS = ["target", "evaluate target", "score target"]
REFERENCES = ["retain_model", "evaluate retain_model", "score retain_model"]
UNLEARNED = ["unlearn", "evaluate unlearned", "score unlearned"]
SCORED = [label for label in STAGES if label.startswith("score")]
EVALUATED = [label for label in STAGES if label.startswith("evaluate")]

MEMORISATION = "unlearn_runner.evaluation.metrics.memorisation"
DETERMINING = {
    "seed=1": UNLEARNED,
    "train.lr=1": UNLEARNED,
    "rectifier.gamma=0.9": UNLEARNED,
    "method.retain.weight=2": UNLEARNED,
    "target.seed=1": STAGES,
    "model.pretrain.lr=1": STAGES,
    "model.template.prompt=Q": STAGES,
    "target.train.lr=1": [label for label in STAGES if label != "base"],
    "benchmark.generate.max_new_tokens=3": EVALUATED + SCORED,
    "benchmark.view.retain.limit=3": EVALUATED + SCORED,
    "benchmark.view.retain.goal=forget": SCORED,
    "benchmark.metric.truth_ratio.mean=arithmetic": SCORED,
    f"benchmark.metric.strength={{_target_: {MEMORISATION}.extraction.ExtractionStrength}}": SCORED,
    "benchmark.suite=full": EVALUATED + SCORED,
    "benchmark.version='2'": SCORED,
}


@pytest.mark.parametrize("override", DETERMINING)
def test_a_setting_changes_the_keys_of_what_depends_on_it_and_no_others(override: str) -> None:
    before = {stage.label: stage.key for stage in planned().stages}
    after = {stage.label: stage.key for stage in planned(override).stages}
    changed = {label for label in STAGES if before[label] != after[label]}
    # The score of a model also reads the retain model's evidence.
    indirect = set(SCORED) if "evaluate retain_model" in DETERMINING[override] else set()
    assert changed == set(DETERMINING[override]) | indirect
    assert names.identity(composed(override)) != names.identity(composed())


# --- names

CHOICES = {"benchmark": "pocket", "method": "gd", "rectifier": "gru", "adapter": "none"}

NAMES = {
    (): "pocket-gd-gru",
    ("method=gd",): "pocket-gd-gru",
    ("method=gd", "rectifier=gru", "benchmark=pocket"): "pocket-gd-gru",
    ("adapter=none",): "pocket-gd-gru",
    ("seed=1",): "pocket-gd-gru,seed=1",
    ("train.lr=1e-5", "seed=1"): "pocket-gd-gru,seed=1,train.lr=1e-5",
    ("debug=tiny",): "pocket-gd-gru,debug=tiny",
    ("++train.lr=1",): "pocket-gd-gru,train.lr=1",
    ("model.template.prompt='a /b'",): "pocket-gd-gru,model.template.prompt=_a_b_",
    ("name=x", "output_dir=/a/b", "tracker=files"): "pocket-gd-gru",
    ("benchmark.data_dir=/a/b", "benchmark.forget=forget05"): (
        "pocket-gd-gru,benchmark.forget=forget05"
    ),
}


@pytest.mark.parametrize("overrides", NAMES, ids=" ".join)
def test_a_name_is_derived_from_the_overrides(overrides: tuple[str, ...]) -> None:
    assert names.derive(overrides, CHOICES) == NAMES[overrides]


def test_a_name_has_the_adapter_when_there_is_one() -> None:
    with_lora = {**CHOICES, "adapter": "lora"}
    assert names.derive(["adapter=lora", "seed=1"], with_lora) == "pocket-gd-gru-lora,seed=1"
    assert names.derive(["adapter.rank=4"], with_lora) == "pocket-gd-gru-lora,adapter.rank=4"


def test_the_order_of_overrides_does_not_change_the_name() -> None:
    overrides = ["train.lr=1e-5", "seed=1", "debug=tiny"]
    assert names.derive(overrides, CHOICES) == names.derive(overrides[::-1], CHOICES)


def test_a_long_name_is_cut_and_stays_distinct() -> None:
    def name(last: int) -> str:
        overrides = [f"benchmark.view.retain.limit={'1' * 200}{last}"]
        return names.derive(overrides, CHOICES)

    assert len(name(1)) == names.LONGEST
    assert name(1) != name(2)
    assert name(1) == name(1)
    assert names.validate_name(name(1)) == name(1)


@pytest.mark.parametrize("name", ["a", "a-b_c", "lr=1e-5,x", "v1.2", "7"])
def test_a_name_that_can_be_a_folder_is_taken_as_it_is(name: str) -> None:
    assert names.validate_name(name) == name


@pytest.mark.parametrize("name", ["../x", "a/b", ".", "..", "-m", "a b", "a\n", "/etc", "~"])
def test_a_name_that_cannot_be_a_folder_is_refused_with_one_that_can(name: str) -> None:
    with pytest.raises(ConfigError) as caught:
        names.validate_name(name)
    offered = caught.value.fix.removeprefix("name=")
    assert names.validate_name(offered) == offered


def test_an_identity_is_flat_and_without_what_is_inert() -> None:
    config = {"seed": 1, "name": "x", "train": {"lr": 2, "micro_batch": 3}, "parallel": {"a": 4}}
    assert names.identity(config) == {"seed": 1, "train.lr": 2}


# --- the guard of a run folder


def guard(folder: Path, *overrides: str, overwrite: bool = False) -> None:
    config = composed(*overrides, f"overwrite={str(overwrite).lower()}")
    job = ComposedJob(config, folder.parent, folder.name, folder, [], {})
    refuse_other_configuration(plan_job(job))


def test_a_run_folder_takes_its_own_configuration_again_and_no_other(tmp_path: Path) -> None:
    guard(tmp_path)  # nothing there yet
    OmegaConf.save(OmegaConf.create(composed("train.lr=0.1")), tmp_path / "config.yaml")
    guard(tmp_path, "train.lr=0.1")
    guard(tmp_path, "train.lr=0.1", "train.micro_batch=2", "parallel.threads=1")
    with pytest.raises(ConfigError, match=r"differs in train\.lr"):
        guard(tmp_path, "train.lr=0.2")
    guard(tmp_path, "train.lr=0.2", overwrite=True)


# --- other people's classes

PLUGIN = """
from dataclasses import dataclass
from typing import Annotated

from annotated_types import Gt

from unlearn_runner.rectifiers.none import NoRectifier


@dataclass(frozen=True)
class Flip(NoRectifier):
    strength: Annotated[float, Gt(0)] = 1.0
"""


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, ...]]:
    """The overrides that choose a rectifier of a package of one's own."""
    (tmp_path / "my_pkg").mkdir()
    (tmp_path / "my_pkg" / "__init__.py").touch()
    (tmp_path / "my_pkg" / "flip.py").write_text(PLUGIN)
    monkeypatch.syspath_prepend(tmp_path)
    yield "rectifier=none", "rectifier._target_=my_pkg.flip.Flip", "+rectifier.strength=0.5"
    for name in [name for name in sys.modules if name.partition(".")[0] == "my_pkg"]:
        del sys.modules[name]


def test_a_trusted_package_can_bring_a_rectifier(plugin: tuple[str, ...]) -> None:
    overrides = (*plugin, "trusted=[my_pkg]")
    rectifier: Any = validate(composed(*overrides)).rectifier
    assert (type(rectifier).__name__, rectifier.strength) == ("Flip", 0.5)
    before = {stage.label: stage.key for stage in planned("rectifier=none").stages}
    after = {stage.label: stage.key for stage in planned(*overrides).stages}
    assert {label for label in STAGES if before[label] != after[label]} == set(UNLEARNED)


def test_the_settings_of_a_trusted_class_are_checked_like_any(plugin: tuple[str, ...]) -> None:
    with pytest.raises(ConfigError, match=r"rectifier\.strength=0 is not allowed; .* > 0"):
        validate(composed(*plugin[:2], "+rectifier.strength=0", "trusted=[my_pkg]"))
    with pytest.raises(ConfigError, match=r"rectifier\.strenth is not a setting"):
        validate(composed(*plugin[:2], "+rectifier.strenth=1", "trusted=[my_pkg]"))


def test_a_package_that_is_not_trusted_is_refused_before_it_is_imported(
    plugin: tuple[str, ...],
) -> None:
    with pytest.raises(ConfigError, match="not trusted") as caught:
        validate(composed(*plugin))
    assert "trusted=[my_pkg]" in caught.value.fix
    assert "my_pkg" not in sys.modules
