"""Files in open-unlearning's formats: read, written and read back they are the same."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from helpers.cases import each

from unlearn_runner.commands.score import main
from unlearn_runner.evaluation.files import Choices, write_choices
from unlearn_runner.evaluation.logs.read import open_log
from unlearn_runner.evaluation.logs.retain_log import against
from unlearn_runner.evaluation.logs.write import write

TOFU = "data/tofu_eval_logs/open_unlearning/tofu_Llama-3.2-1B-Instruct_"
MUSE = "data/muse_eval_logs/muse_Llama-2-7b-hf_News_"
PAIRS = (
    (f"{TOFU}full.forget01", f"{TOFU}retain99", "TOFU", ".TOFU_EVAL.min.json"),
    (f"{TOFU}full.forget10", f"{TOFU}retain90", "TOFU", ".TOFU_EVAL.min.json"),
    (f"{TOFU}retain90", None, "TOFU", ".TOFU_EVAL.min.json"),
    (f"{TOFU}retain99", None, "TOFU", ".TOFU_EVAL.min.json"),
    (f"{MUSE}target", f"{MUSE}retrain", "MUSE", ".MUSE_EVAL.numeric.json"),
    (f"{MUSE}retrain", None, "MUSE", ".MUSE_EVAL.numeric.json"),
)

MEANS = 1e-6


def _parsed(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


@each("names", PAIRS)
def test_real_logs_are_written_as_they_were(
    shared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], names: Any
) -> None:
    """Every metric, mean and row: rows exactly, means to float32, which some are of."""
    own, retain, benchmark, end = names
    log = shared / f"{own}{end}"
    options = [] if retain is None else ["--retain", str(shared / f"{retain}{end}")]
    assert main([str(log), *options, "--export", str(tmp_path)]) == 0
    capsys.readouterr()
    before, after = _parsed(log), _parsed(tmp_path / f"{benchmark}_EVAL.json")
    assert before.keys() <= after.keys()
    assert after.keys() - before.keys() == set()
    for metric, content in before.items():
        for key, value in content.items():
            _same(after[metric][key], value, f"{metric}.{key}")
    summary = _parsed(shared / f"{own}.{benchmark}_SUMMARY.json")
    assert _parsed(tmp_path / f"{benchmark}_SUMMARY.json") == pytest.approx(summary, rel=MEANS)
    first, second = (
        open_log(path).evidence() for path in (log, tmp_path / f"{benchmark}_EVAL.json")
    )
    assert first == second


def _same(found: Any, expected: Any, where: str) -> None:
    if isinstance(expected, dict):
        assert found.keys() == expected.keys(), where
        for key, value in expected.items():
            _same(found[key], value, f"{where}.{key}")
    elif isinstance(expected, float):
        computed = any(word in where.lower() for word in ("truth_ratio", "normalised"))
        exact = "value_by_index" in where and not computed
        assert found == (expected if exact else pytest.approx(expected, rel=MEANS)), where
    else:
        assert found == expected, where


def test_a_written_log_is_a_retain_log(shared: Path, tmp_path: Path) -> None:
    original = shared / f"{TOFU}retain99.TOFU_EVAL.min.json"
    write(tmp_path, open_log(original), None)
    model = open_log(shared / f"{TOFU}full.forget01.TOFU_EVAL.min.json")
    first = against(model, open_log(original), False)
    assert against(model, open_log(tmp_path / "TOFU_EVAL.json"), False) == first


def test_choices_are_written_as_the_harness_s_summary_and_read_back(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of three questions two are right; by character one: -3 over six letters beats -2 over two."""
    rows = [
        Choices((-1.0, -2.0), (1, 1), 0),
        Choices((-2.0, -3.0), (2, 6), 0),
        Choices((-2.0, -3.0), (2, 6), 1),
    ]
    for name, some in (("mmlu", rows), ("wmdp_bio", rows[2:])):
        write_choices(tmp_path, name, some)
    assert main([str(tmp_path), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["scores"] == {"mmlu.accuracy": pytest.approx(2 / 3), "wmdp_bio.accuracy": 0.0}
    assert found["directions"] == {"mmlu.accuracy": "higher", "wmdp_bio.accuracy": "lower"}
    assert main([str(tmp_path), "--export", str(tmp_path / "out")]) == 0
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["LMEval_SUMMARY.json"]
    written = tmp_path / "out/LMEval_SUMMARY.json"
    expected = {
        "mmlu.acc": 2 / 3,
        "wmdp_bio.acc": 0.0,
        "mmlu.acc_norm": 2 / 3,
        "wmdp_bio.acc_norm": 1,
    }
    assert open_log(written).scores() == pytest.approx(expected)


def test_a_summary_of_lm_evaluation_harness_is_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "LMEval_SUMMARY.json"
    path.write_text('{"mmlu/acc": 0.4581, "wmdp_bio/acc": 0.6402}', encoding="utf-8")
    assert main([str(path), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["scores"] == {"mmlu.acc": 0.4581, "wmdp_bio.acc": 0.6402}
    assert main([str(path), "--export", str(tmp_path / "out")]) == 0
    capsys.readouterr()
    assert _parsed(tmp_path / "out/LMEval_SUMMARY.json") == _parsed(path)
    path.write_text('{"mmlu/acc": "high"}', encoding="utf-8")
    assert main([str(path), "--json"]) == 2
