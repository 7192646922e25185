"""`unlearn-score` on every real log prints what `tofu-log-oracles.md` prints, to its last digit.

The tables are read from the note itself, so no expected digit is written here. Full precision:
`tofu_reference_anchors` of `gru_geffect.json` and the summaries that open-unlearning stored.
"""

from __future__ import annotations

import io
import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable
from contextlib import redirect_stdout
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from helpers.cases import each
from helpers.oracles import read_oracles

from unlearn_runner.commands.score import main
from unlearn_runner.evaluation.logs.base import FORGET
from unlearn_runner.evaluation.logs.read import open_log
from unlearn_runner.evaluation.metrics.forget_quality import forget_quality
from unlearn_runner.evaluation.metrics.truth_ratio import view_ratio

Say = Callable[..., list[dict[str, Any]]]
VIEWS = {"retain": "retain", "ra": "real_authors", "wf": "world_facts", "forget": "forget"}
PARTS = {"P": "probability", "R": "rouge_l", "T": "truth_ratio"}
NINE = [f"{view} {part}" for view in ("retain", "ra", "wf") for part in PARTS]


@pytest.fixture(scope="module")
def logs(shared: Path) -> dict[str, Path]:
    """Every log of the folder, by the name the tables give its model."""
    folder = shared / "data/tofu_eval_logs"
    found = [*folder.rglob("*eval_log_aggregated*.json"), *folder.rglob("*TOFU_EVAL*.json")]
    name = re.compile(r"(llama2-7b_|tofu_Llama-3.2-1B-Instruct_)([a-z0-9.]+?)(_wd|\.TOFU)")
    by_name: dict[str, Path] = {}
    for path in found:
        match = name.match(path.name)
        assert match, path
        by_name[("7b " if "7b" in match[1] else "1B ") + match[2]] = path
    assert len(by_name) == len(found) == 8
    return by_name


@pytest.fixture(scope="module")
def say(logs: dict[str, Path]) -> Say:
    """Runs the command with --json, a command once."""
    known: dict[tuple[str, ...], list[dict[str, Any]]] = {}

    def run(*arguments: str) -> list[dict[str, Any]]:
        if arguments not in known:
            out = io.StringIO()
            with redirect_stdout(out):
                assert main([*(str(logs.get(a, a)) for a in arguments), "--json"]) == 0
            found = json.loads(out.getvalue())
            known[arguments] = found if isinstance(found, list) else [found]
        return known[arguments]

    return run


@pytest.fixture(scope="module")
def tables(shared: Path) -> list[list[dict[str, str]]]:
    """The note's tables: rows of cells by column heading."""
    text = (shared / "specs/tofu-log-oracles.md").read_text(encoding="utf-8")
    found = []
    for block in re.findall(r"(?:^\|.*\n)+", text, re.M):
        head, _, *rows = ([c.strip() for c in line.split("|")[1:-1]] for line in block.splitlines())
        found.append([dict(zip(head, row, strict=True)) for row in rows])
    return found


def table(tables: list[list[dict[str, str]]], *columns: str) -> list[dict[str, str]]:
    """The one table that has these columns."""
    (found,) = (rows for rows in tables if set(columns) <= rows[0].keys())
    return found


def as_printed(value: float, cell: str) -> str:
    """The value with as many digits as the cell."""
    mantissa, e, _ = cell.partition("e")
    digits = len(mantissa.partition(".")[2])
    if not e:
        return f"{value:.{digits}f}"
    return f"{value:.{digits}e}"


def part(scores: dict[str, Any], name: str) -> float:
    """The score the tables call "ra P"."""
    view, letter = name.split()
    return scores["parts"][VIEWS[view]][PARTS[letter]]


def same(found: dict[str, float], cells: dict[str, str]) -> None:
    assert {n: as_printed(v, cells[n]) for n, v in found.items()} == {n: cells[n] for n in found}


LOCUSLAB = ("full", "retain90", "retain95", "retain99")


def plain(say: Say) -> dict[str, dict[str, Any]]:
    """The locuslab logs' scores; forget quality of `full` against retain90."""
    first = say("7b full", "--retain", "7b retain90")
    return dict(zip(LOCUSLAB, first + say(*(f"7b {name}" for name in LOCUSLAB[1:])), strict=True))


def arithmetic(say: Say) -> dict[str, dict[str, Any]]:
    found = say(*(f"7b {name}" for name in LOCUSLAB), "--mean", "arithmetic")
    return dict(zip(LOCUSLAB, found, strict=True))


@each("model", LOCUSLAB)
def test_section_3_1(tables: Any, say: Say, model: str) -> None:
    rows = {row["model"]: row for row in table(tables, "MU geo")}
    scores = plain(say)[model]
    found = {name: part(scores, name) for name in [*NINE, "forget P", "forget R", "forget T"]}
    found["MU geo"] = scores["model_utility"]
    found["MU arith"] = arithmetic(say)[model]["model_utility"]
    assert len(found) == 14
    same(found, rows[f"llama2-7b {model}"])


@each("model", LOCUSLAB)
def test_section_3_1_arithmetic(tables: Any, say: Say, model: str) -> None:
    (rows,) = (t for t in tables if list(t[0])[1:] == [f"{view} T" for view in VIEWS])
    (row,) = (row for row in rows if row["model"] == f"llama2-7b {model}")
    same({f"{v} T": part(arithmetic(say)[model], f"{v} T") for v in VIEWS}, row)


@each(
    ("line", "arguments", "place"),
    [
        ("full vs retain90 (forget10, official, matched)", "7b full|--retain|7b retain90", 0),
        ("full vs retain95 (matched 100)", "7b full|7b retain90|--retain|7b retain95|--matched", 0),
        (
            "control: retain90 vs retain95 (matched 100)",
            "7b full|7b retain90|--retain|7b retain95|--matched",
            1,
        ),
        ("control: model against itself", "7b full|--retain|7b full", 0),
    ],
)
def test_section_3_2(tables: Any, say: Say, line: str, arguments: str, place: int) -> None:
    (row,) = (r for r in table(tables, "p exact") if r["comparison"] == f"llama2-7b {line}")
    scores = say(*arguments.split("|"))[place]
    same({"p exact": scores["forget_quality"], "D": scores["forget_quality_ks"]}, row)
    assert row["n"] == f"{scores['matched']}, {scores['matched']}"


@each(
    ("retain", "counts", "refused_still"),
    [("retain95", ("200", "300", "100"), False), ("retain99", ("40", "300", "no row"), True)],
)
def test_other_splits_are_refused(
    tables: Any, logs: Any, capsys: Any, retain: str, counts: tuple[str, ...], refused_still: bool
) -> None:
    """What the published script computes without complaint: the same number, and a refusal."""
    mine, theirs = (open_log(logs[name]).view(FORGET) for name in ("7b full", f"7b {retain}"))
    line = f"llama2-7b full vs {retain} (official, rows differ)"
    (row,) = (r for r in table(tables, "p exact") if r["comparison"] == line)
    ratios = [view_ratio(view, "geometric") for view in (mine, theirs)]
    assert ratios[0] is not None
    assert ratios[1] is not None
    assert row["n"] == f"{len(ratios[0])}, {len(ratios[1])}"
    pvalue, statistic = forget_quality(ratios[0], ratios[1])
    same({"p exact": pvalue, "D": statistic}, row)

    command = [str(logs["7b full"]), "--retain", str(logs[f"7b {retain}"])]
    for more in ([], ["--matched"]) if refused_still else ([],):
        assert main([*command, *more]) == 2
        said = capsys.readouterr()
        assert said.out == ""
        error, fix = said.err.splitlines()
        for count in counts:
            assert f" {count} " in error.replace(",", " ")
        assert fix.startswith("fix: ")
        assert ("--matched" in fix) is not refused_still


OPEN = {
    "forget01 vs retain99": ("1B full.forget01", "1B retain99"),
    "forget10 vs retain90": ("1B full.forget10", "1B retain90"),
}


@each("line", OPEN)
def test_section_4(tables: Any, say: Say, line: str) -> None:
    (row,) = (
        r
        for r in table(tables, "forget set")
        if (r["model"], r["forget set"]) == ("Llama-3.2-1B-Instruct", line)
    )
    full, retain = OPEN[line]
    (scores,), (retain_model,) = say(full, "--retain", retain), say(retain)
    found = {
        "n": scores["matched"],
        "D": scores["forget_quality_ks"],
        "forget quality": scores["forget_quality"],
        "forget truth ratio, full": part(scores, "forget T"),
        "same, retain": part(retain_model, "forget T"),
        "utility full": scores["model_utility"],
        "utility retain": retain_model["model_utility"],
    }
    same(found, row)


@each("log", ["full.forget10", "retain90", "retain99"])
def test_section_4_parts(tables: Any, say: Say, log: str) -> None:
    (row,) = (r for r in table(tables, "utility", "log") if r["log"] == log)
    command = ("1B full.forget10", "--retain", "1B retain90")
    (scores,) = say(*command) if "full" in log else say(f"1B {log}")
    same({name: part(scores, name) for name in NINE} | {"utility": scores["model_utility"]}, row)


@each("log", ["full.forget01", "full.forget10", "retain90", "retain99"])
def test_stored_summaries_to_the_last_bit(logs: Any, say: Say, log: str) -> None:
    path = logs[f"1B {log}"]
    stored = json.loads(Path(str(path).replace("EVAL.min", "SUMMARY")).read_text())
    commands = {pair[0]: (pair[0], "--retain", pair[1]) for pair in OPEN.values()}
    (scores,) = say(*commands.get(f"1B {log}", (f"1B {log}",)))
    assert scores["model_utility"] == stored["model_utility"]
    assert part(scores, "forget P") == stored["forget_Q_A_Prob"]
    assert part(scores, "forget R") == stored["forget_Q_A_ROUGE"]
    if "forget_quality" in stored:
        assert scores["forget_quality"] == pytest.approx(stored["forget_quality"], rel=1e-14)
    # What a summary leaves out, the log's own means say.
    means = json.loads(path.read_text())
    assert part(scores, "forget T") == means["forget_truth_ratio"]["agg_value"]
    for view in ("retain", "ra", "wf"):
        assert part(scores, f"{view} T") == means[f"{view}_Truth_Ratio"]["agg_value"]
        assert part(scores, f"{view} R") == means[f"{view}_Q_A_ROUGE"]["agg_value"]


@each("model", LOCUSLAB)
def test_reference_anchors(say: Say, model: str) -> None:
    anchors = read_oracles("gru_geffect")
    (anchor,) = (
        row
        for row in anchors["tofu_reference_anchors"]["rows"]
        if (row["model"], row["weight_decay"], row["trained_on"]) == ("llama2-7b", "0.01", model)
    )
    scores = plain(say)[model]
    for view in VIEWS.values():
        found = list(scores["parts"][view].values())
        expected = [anchor[view][key] for key in ("prob", "rougeL_recall", "truth_ratio")]
        assert found == pytest.approx(expected, rel=1e-9)
        assert scores["rows"][view] == anchor[view]["n"]
    assert scores["model_utility"] == pytest.approx(anchor["model_utility"], rel=1e-9)
    if model == "retain90":
        quality = anchor["forget_quality_of_full_vs_this"]
        full = plain(say)["full"]
        found = (full["forget_quality"], full["forget_quality_ks"])
        assert found == pytest.approx((quality["p"], quality["stat"]), rel=1e-9)


def test_json_says_what_was_scored(logs: Any, say: Say) -> None:
    (scores,) = say("7b full", "--retain", "7b retain90")
    assert list(scores)[:4] == ["model_utility", "forget_quality", "forget_quality_ks", "parts"]
    assert list(scores["parts"]) == list(VIEWS.values())
    assert all(list(parts) == list(PARTS.values()) for parts in scores["parts"].values())
    assert scores["log"] == str(logs["7b full"])
    assert scores["retain_log"] == str(logs["7b retain90"])
    assert (scores["format"], scores["rouge_l_from"]) == ("locuslab", "texts")
    (alone,) = say("1B retain90")
    assert alone["format"] == "open-unlearning"
    assert [alone[k] for k in ("forget_quality", "forget_quality_ks", "matched")] == [None] * 3


def test_formats_can_be_mixed(logs: Any, capsys: Any) -> None:
    """TOFU's own evaluation stops after 300 of 400 rows."""
    command = [str(logs["1B full.forget10"]), "--retain", str(logs["7b retain90"])]
    assert main(command) == 0
    said = capsys.readouterr().out
    assert "forget quality on 300 equal rows of 400 here and 300 there" in said
    assert "the retain log is in the locuslab format" in said


def test_a_table_has_a_column_per_log(logs: Any, capsys: Any) -> None:
    assert main([str(logs["7b full"]), str(logs["1B full.forget01"])]) == 0
    rows = {
        cells[1].strip(): [c.strip() for c in cells[3:-1]]
        for line in capsys.readouterr().out.splitlines()
        if len(cells := re.split("[┃│]", line)) > 4
    }
    assert rows["model_utility"] == ["0.6227", "0.5992"]
    assert rows["forget_quality"] == ["-", "-"]
    assert len(rows.keys() - {"", "metric"}) == 3 + 12  # a long file name may be folded


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ([], "LOG"),
        (["no.json"], "no.json"),
        (["no.json", "--mean", "harmonic"], "harmonic"),
        (["no.json", "--jsn"], "--jsn"),
        (["no.json", "--retain"], "--retain"),
        (["."], "folder"),
    ],
)
def test_usage_errors(arguments: list[str], named: str, tmp_path: Path) -> None:
    """In a real process, two lines; and nothing written."""
    command = [sys.executable, "-m", "unlearn_runner.commands.score", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stdout == ""
    error, fix = done.stderr.splitlines()
    assert error.startswith("error: ")
    assert named in error
    assert fix.startswith("fix: ")
    assert not list(tmp_path.iterdir())


def test_the_console_script_is_this_command(monkeypatch: Any, capsys: Any) -> None:
    root = Path(__file__).resolve().parents[3]
    scripts = tomllib.loads((root / "pyproject.toml").read_text())["project"]["scripts"]
    module, _, name = scripts["unlearn-score"].partition(":")
    monkeypatch.setattr(sys, "argv", ["unlearn-score", "--help"])
    with pytest.raises(SystemExit) as ended:
        getattr(import_module(module), name)()
    assert ended.value.code == 0
    assert "--retain LOG" in capsys.readouterr().out


def test_no_torch(logs: Any, tmp_path: Path) -> None:
    path, retain = str(logs["1B full.forget01"]), str(logs["1B retain99"])
    code = (
        "import sys; from unlearn_runner.commands.score import main; "
        f"code = main([{path!r}, '--retain', {retain!r}]); "
        "print('torch' in sys.modules, 'transformers' in sys.modules, file=sys.stderr); "
        "sys.exit(code)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stderr.strip()) == (0, "False False")
    assert "6.76e-03" in done.stdout or "0.0068" in done.stdout
