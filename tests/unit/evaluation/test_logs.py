"""Foreign logs: what may differ is read alike, what is malformed is named, rows are matched.

The small logs here have no oracle but themselves: real ones are in `test_score_command.py` and
`test_metric_oracles.py`.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from helpers.cases import each

from unlearn_runner.commands.score import main
from unlearn_runner.data.rows import QA, Rows
from unlearn_runner.errors import DataError
from unlearn_runner.evaluation.logs.read import digest, open_log
from unlearn_runner.evaluation.logs.retain_log import RetainLog, from_rows, from_texts, match
from unlearn_runner.evaluation.metrics.base import MetricInputs
from unlearn_runner.evaluation.metrics.evidence import Evidence, Texts
from unlearn_runner.evaluation.metrics.forget_quality import ForgetQuality

Json = dict[str, Any]
ROWS = 5
QUESTIONS = ["Who wrote Ash?", "Where is Bo from?", "When?", "Is Cy a poet?", "When, again?"]
ANSWERS = ["Ann wrote Ash.", "Bo is from Rome.", "In 1990.", "Cy is not.", "In 1990."]
PARTS = (
    "eval_log.json",
    "eval_real_author_wo_options.json",
    "eval_real_world_wo_options.json",
    "eval_log_forget.json",
)


def locuslab() -> Json:
    def rows(value: Callable[[int], Any]) -> Json:
        return {str(i): value(i) for i in range(ROWS)}

    part = {
        "avg_gt_loss": rows(lambda i: 0.5 + i / 10),
        "avg_paraphrased_loss": rows(lambda i: 1.0 + i / 7),
        "average_perturb_loss": rows(lambda i: [2.0 - i / 9, 1.5 + i, 1.0][: 1 + i % 3]),
        "generated_text": rows(lambda i: [f"[INST] {QUESTIONS[i]} [/INST]", "Ann.", ANSWERS[i]]),
        "rougeL_recall": rows(lambda i: 1 / 3 if i == 0 else 0.0),
        "num_token_gt": rows(lambda i: 3),
    }
    return {name: deepcopy(part) for name in PARTS}


def open_unlearning() -> Json:
    old = locuslab()["eval_log_forget.json"]
    log: Json = {"model_utility": {"agg_value": 0.5}}

    def metric(column: str) -> Json:
        return {"agg_value": 0, "value_by_index": {r: {"avg_loss": x} for r, x in column.items()}}

    for prefix in ("forget", "retain", "ra", "wf"):
        log[f"{prefix}_Q_A_Prob"] = metric(old["avg_gt_loss"])
        log[f"{prefix}_Q_A_PERT_Prob"] = metric(old["average_perturb_loss"])
        log[f"{prefix}_Q_A_ROUGE"] = {
            "value_by_index": {
                row: {"input": f"system\n\nuser\n\n{QUESTIONS[int(row)]}assistant\n\n"}
                | {"generation": text[1], "ground_truth": text[2], "rougeL_recall": 0.25}
                for row, text in old["generated_text"].items()
            }
        }
        if prefix in ("forget", "retain"):
            log[f"{prefix}_Q_A_PARA_Prob"] = metric(old["avg_paraphrased_loss"])
    return deepcopy(log)


SOUND = {"locuslab": locuslab, "open-unlearning": open_unlearning}


def scores(folder: Path, capsys: Any, log: Json, *arguments: str) -> Json:
    path = folder / "log.json"
    path.write_text(json.dumps(log), encoding="utf-8")
    code = main([str(path), *arguments, "--json"])
    said = capsys.readouterr()
    assert code == 0, said.err
    return json.loads(said.out)


# Read alike.


@pytest.mark.parametrize("form", SOUND)
def test_rows_may_stand_in_any_order(tmp_path: Path, capsys: Any, form: str) -> None:
    """Keys are text: "10" comes before "2" unless they are read as numbers."""

    def turned(value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        moved = {str(9 + int(k) * 3) if k.isdigit() else k: turned(v) for k, v in value.items()}
        return dict(sorted(moved.items()))

    log = SOUND[form]()
    (tmp_path / "turned.json").write_text(json.dumps(turned(log)))
    again = tmp_path / "turned.json"
    assert list(json.loads(again.read_text())) != list(log)
    found = open_log(again).view("forget")
    plain = tmp_path / "plain.json"
    plain.write_text(json.dumps(log))
    expected = open_log(plain).view("forget")
    assert found.record.losses == expected.record.losses
    assert found.record.texts == expected.record.texts
    assert scores(tmp_path, capsys, log, "--retain", str(again))["forget_quality"] == 1.0


def test_the_two_formats_say_the_same(tmp_path: Path, capsys: Any) -> None:
    """But for the paraphrased loss of facts, which open-unlearning has not, and the 1e-10."""
    one, other = (scores(tmp_path, capsys, SOUND[form]()) for form in SOUND)
    assert (one["format"], other["format"]) == tuple(SOUND)
    for view in ("retain", "forget"):
        assert one["parts"][view] == pytest.approx(other["parts"][view], rel=1e-8)
        assert one["parts"][view] != other["parts"][view]
    assert one["parts"]["world_facts"]["truth_ratio"] != pytest.approx(
        other["parts"]["world_facts"]["truth_ratio"], rel=1e-3
    )


def without(name: str) -> Callable[[Json], None]:
    def change(log: Json) -> None:
        for key in [key for key in log if key.endswith(name)]:
            del log[key]
        for part in log.values():
            part.pop(name, None)

    return change


@pytest.mark.parametrize(
    ("form", "name", "lost"),
    [
        ("locuslab", "avg_gt_loss", {"probability"}),
        ("locuslab", "avg_paraphrased_loss", {"truth_ratio"}),
        ("locuslab", "average_perturb_loss", {"truth_ratio"}),
        ("open-unlearning", "Q_A_Prob", {"probability"}),
        ("open-unlearning", "PARA_Prob", {"truth_ratio"}),
        ("open-unlearning", "PERT_Prob", {"truth_ratio"}),
        ("open-unlearning", "ROUGE", {"rouge_l"}),
    ],
)
def test_a_missing_metric_is_null(
    tmp_path: Path, capsys: Any, form: str, name: str, lost: set[str]
) -> None:
    """No other answer takes the place of a missing one."""
    log = SOUND[form]()
    without(name)(log)
    found = scores(tmp_path, capsys, log)
    assert {part for part, value in found["parts"]["retain"].items() if value is None} == lost
    assert found["model_utility"] is None


def test_rouge_as_recorded_where_there_are_no_texts(tmp_path: Path, capsys: Any) -> None:
    log = open_unlearning()
    for row in log["forget_Q_A_ROUGE"]["value_by_index"].values():
        del row["generation"]
    found = scores(tmp_path, capsys, log)
    assert found["parts"]["forget"]["rouge_l"] == 0.25
    assert found["parts"]["retain"]["rouge_l"] == pytest.approx(1 / 15)
    assert found["rouge_l_from"] == "texts and recorded values"


def test_own_evaluations(tmp_path: Path, capsys: Any) -> None:
    """The evidence a run leaves, scored beside the log that says the same."""
    part = locuslab()["eval_log.json"]
    for view in ("retain", "real_authors", "world_facts", "forget"):
        lines = [
            (int(row), role, place, [loss])
            for role, name in (
                ("answer", "avg_gt_loss"),
                ("paraphrased", "avg_paraphrased_loss"),
                ("perturbed", "average_perturb_loss"),
            )
            for row, value in part[name].items()
            for place, loss in enumerate(value if isinstance(value, list) else [value])
        ]
        names = ("row", "role", "answer_index", "logprob")
        columns = dict(zip(names, map(list, zip(*lines, strict=True)), strict=True))
        columns["logprob"] = [[-loss[0]] for loss in columns["logprob"]]
        pq.write_table(pa.table(columns), tmp_path / f"{view}.logprobs.parquet")
        texts = {"row": list(range(ROWS)), "question": QUESTIONS, "answer": ANSWERS}
        texts["generation"] = ["Ann."] * ROWS
        pq.write_table(pa.table(texts), tmp_path / f"{view}.generations.parquet")
    expected = scores(tmp_path, capsys, locuslab(), "--retain", str(tmp_path))
    assert (expected["forget_quality"], expected["matched"]) == (1.0, ROWS)
    assert main([str(tmp_path), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["format"] == "unlearn-runner"
    assert found["parts"] == expected["parts"]
    (tmp_path / "retain.logprobs.parquet").write_bytes(b"PAR1 and no more")
    assert main([str(tmp_path)]) == 2
    assert "'retain'" in capsys.readouterr().err


# Malformed.


@dataclass(frozen=True)
class Bad:
    """A log that cannot be scored, and what the answer must name besides the file."""

    content: Json | list[Any] | bytes
    named: tuple[str, ...]


def changed(form: str, *keys: str, value: Any) -> Json:
    """A sound log with one value replaced; `...` takes it out."""
    log = SOUND[form]()
    inner = log
    for key in keys[:-1]:
        inner = inner[key]
    if value is ...:
        del inner[keys[-1]]
    else:
        inner[keys[-1]] = value
    return log


def old(*keys: str, value: Any) -> Json:
    return changed("locuslab", "eval_log_forget.json", *keys, value=value)


def new(metric: str, *keys: str, value: Any) -> Json:
    return changed("open-unlearning", metric, "value_by_index", *keys, value=value)


TEXT = json.dumps(locuslab())
LOSS, PROB = "eval_log_forget.json.avg_gt_loss", "forget_Q_A_Prob"
MALFORMED = {
    "cut off": Bad(TEXT[:-200].encode(), (":1:", "JSON")),
    "nothing in it": Bad(b"", ("JSON",)),
    "not UTF-8": Bad(b'{"eval_log.json": "\xe9"}', ("UTF-8",)),
    "a list": Bad([locuslab()], ("not a JSON object",)),
    "neither": Bad({"accuracy": 0.5}, ("neither",)),
    "a summary": Bad({"forget_Q_A_Prob": 0.5, "model_utility": 0.5}, ("neither",)),
    "nested": Bad(b"[" * 100_000, ("deep",)),
    "a key twice": Bad(TEXT.replace('{"0": 0.5,', '{"0": 0.5, "0": 0.6,').encode(), ("'0'",)),
    "part a list": Bad(changed("locuslab", "eval_log.json", value=[]), ("eval_log.json",)),
    "parts empty": Bad({name: {} for name in PARTS}, ("no rows",)),
    "column empty": Bad(old("avg_gt_loss", value={}), (LOSS, "no rows")),
    "column text": Bad(old("avg_gt_loss", value="0.1"), (LOSS, "text")),
    "column a short list": Bad(old("avg_gt_loss", value=[0.1]), (LOSS, "row 1", "1 rows")),
    "row no number": Bad(old("avg_gt_loss", "first", value=0.1), (LOSS, "'first'")),
    "row negative": Bad(old("avg_gt_loss", "-1", value=0.1), (LOSS, "'-1'")),
    "row twice": Bad(old("avg_gt_loss", "03", value=0.1), (LOSS, "row 3 twice")),
    "row missing": Bad(old("avg_gt_loss", "3", value=...), (LOSS, "row 3", "4 rows")),
    "row too many": Bad(old("generated_text", "7", value=["a", "b", "c"]), ("row 7", "text")),
    "loss text": Bad(old("avg_gt_loss", "2", value="0.5"), (LOSS, "row 2", "text")),
    "loss null": Bad(old("avg_gt_loss", "2", value=None), (LOSS, "row 2", "null")),
    "loss true": Bad(old("avg_gt_loss", "2", value=True), (LOSS, "row 2", "true")),
    "loss NaN": Bad(old("avg_gt_loss", "2", value=float("nan")), (LOSS, "row 2", "nan")),
    "loss infinite": Bad(old("avg_gt_loss", "2", value=float("inf")), (LOSS, "row 2", "inf")),
    "loss endless": Bad(old("avg_gt_loss", "2", value=10**400), (LOSS, "row 2", "finite")),
    "wrong not a list": Bad(
        old("average_perturb_loss", "1", value=2.0), ("average_perturb_loss", "row 1", "a list")
    ),
    "no wrong answer": Bad(
        old("average_perturb_loss", "1", value=[]), ("average_perturb_loss", "row 1", "0 items")
    ),
    "texts of two": Bad(old("generated_text", "4", value=["a", "b"]), ("row 4", "2 items")),
    "text a number": Bad(old("generated_text", "4", value=["a", 1, "c"]), ("row 4", "a number")),
    "rouge null": Bad(old("rougeL_recall", "0", value=None), ("rougeL_recall", "row 0")),
    "metric empty": Bad(
        changed("open-unlearning", PROB, "value_by_index", value={}), (PROB, "no rows")
    ),
    "no loss": Bad(new(PROB, "1", value={"prob": 0.5}), (PROB, "row 1", "avg_loss")),
    "row a number": Bad(new(PROB, "1", value=0.5), (PROB, "row 1", "avg_loss")),
    "some with probabilities": Bad(
        new(PROB, "0", value={"avg_loss": 0.5, "prob": 0.6}), (PROB, "row 1", "'prob'")
    ),
    "null loss": Bad(new(PROB, "1", "avg_loss", value=None), (f"{PROB}.avg_loss", "row 1")),
    "rows differ": Bad(new(PROB, "4", value=...), (PROB, "row 4", "_Prob'")),
    "no texts": Bad(
        new("forget_Q_A_ROUGE", "2", "input", value=...), ("forget_Q_A_ROUGE", "row 2", "'input'")
    ),
}


@pytest.mark.parametrize("case", MALFORMED)
def test_malformed(tmp_path: Path, capsys: Any, case: str) -> None:
    """Two lines that name file, key and row; as the scored log and as the retain log."""
    bad = MALFORMED[case]
    path, sound = tmp_path / "bad.json", tmp_path / "sound.json"
    content = bad.content
    path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    sound.write_text(TEXT)
    for arguments in ([str(path)], [str(sound), str(path)]):
        assert main(arguments) == 2
        said = capsys.readouterr()
        assert said.out == ""
        error, fix = said.err.splitlines()
        assert fix.startswith("fix: ")
        for word in (str(path), *bad.named):
            assert word in error
    # Of a retain log only the forget rows are read; there, the same must be said.
    if "forget" in bad.named[0] or not isinstance(bad.content, dict):
        assert main([str(sound), "--retain", str(path)]) == 2
        assert capsys.readouterr().err.splitlines()[0] == error


def test_a_retain_log_without_what_is_compared(tmp_path: Path, capsys: Any) -> None:
    log = open_unlearning()
    del log["forget_Q_A_PARA_Prob"]
    path, sound = tmp_path / "retain.json", tmp_path / "sound.json"
    path.write_text(json.dumps(log))
    sound.write_text(TEXT)
    assert main([str(sound), "--retain", str(path)]) == 2
    assert "paraphrased" in capsys.readouterr().err


# Matching.


def matched(path: Path, rows: Rows, view: str = "forget") -> Evidence:
    return RetainLog(path, digest(path), rows, view).matched()


def asked(*rows: tuple[str, str], template: str = "[INST] {} [/INST]") -> Any:
    questions = [template.format(question) for question, _ in rows]
    return from_texts(Texts(questions, [""] * len(rows), [answer for _, answer in rows]))


PAIRS = list(zip(QUESTIONS, ANSWERS, strict=True))


def test_equal_rows_in_any_order_and_any_template() -> None:
    mine = asked(*PAIRS)
    chat = "system You are helpful.\n\nuser\n\n{}assistant\n\n"
    found = match(mine, asked(*reversed(PAIRS), template=chat))
    assert found.pairs == tuple((i, 4 - i) for i in range(5))
    assert found.keys() == [4, 3, 2, 1, 0]
    assert found.same_split


def test_the_question_counts_and_so_does_the_answer() -> None:
    mine = asked(*PAIRS)
    swapped = [*PAIRS[:3], ("Is Dee a poet?", "Cy is not."), ("When, again?", "In 1991.")]
    assert [pair[0] for pair in match(mine, asked(*swapped)).pairs] == [0, 1, 2]


def test_rows_that_occur_twice_are_paired_one_by_one() -> None:
    twice = asked(PAIRS[0], PAIRS[1], PAIRS[0])
    assert match(twice, twice).pairs == ((0, 0), (1, 1), (2, 2))
    assert match(asked(PAIRS[0], PAIRS[1]), twice).pairs == ((0, 0), (1, 1))


def test_white_space_apart() -> None:
    """Decoding takes spaces away before punctuation."""
    rows = Rows("view", (QA("Who wrote  Ash ?", "Ann wrote Ash ."), QA("When?", "In 1990.")))
    assert match(from_rows(rows), asked(*PAIRS)).pairs == ((0, 0), (1, 2))


@pytest.mark.parametrize(
    ("mine", "theirs", "same"),
    [
        (range(400), range(400), True),
        (range(400), range(300), True),  # TOFU's own evaluation stops at 300
        (range(300), range(400), True),
        (range(20), range(400), True),  # a quick look at the first rows
        (range(400), [*range(200), *range(250, 400)], True),
        (range(400), range(200, 400), False),  # forget05 are the last rows of forget10
        (range(360, 400), range(400), False),  # forget01
        (range(300), range(200, 400), False),  # forget05, and forget10 stopped at 300
        (range(300), range(360, 400), False),
        (range(400), range(10, 410), False),
    ],
)
def test_the_same_split(mine: Any, theirs: Any, same: bool) -> None:
    sides = [[(f"Question {i}?", f"Answer {i}.") for i in rows] for rows in (mine, theirs)]
    found = match(asked(*sides[0]), asked(*sides[1]))
    assert len(found.pairs) == len(set(mine) & set(theirs))
    assert found.same_split is same


# A log as a run's retain_model.


def tofu(shared: Path, name: str) -> Rows:
    lines = (shared / f"data/tofu/{name}_perturbed.json").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    return Rows(name, tuple(QA(row["question"], row["answer"]) for row in rows))


LOGS = {
    "7b retain90": "locuslab/llama2-7b_retain90_wd0.01.eval_log_aggregated.json",
    "7b retain95": "locuslab/llama2-7b_retain95_wd0.01.eval_log_aggregated.json",
    "7b retain99": "locuslab/llama2-7b_retain99_wd0.01.eval_log_aggregated.json",
    "1B retain90": "open_unlearning/tofu_Llama-3.2-1B-Instruct_retain90.TOFU_EVAL.min.json",
    "1B retain99": "open_unlearning/tofu_Llama-3.2-1B-Instruct_retain99.TOFU_EVAL.min.json",
}


@each(
    ("log", "split", "rows"),
    [
        ("7b retain90", "forget10", 300),
        ("7b retain95", "forget05", 200),
        ("7b retain99", "forget01", 40),
        ("1B retain90", "forget10", 400),
        ("1B retain99", "forget01", 40),
        ("7b retain90", "forget05", None),
        ("7b retain90", "forget01", None),
        ("7b retain95", "forget10", None),
        ("7b retain99", "forget10", None),
        ("1B retain99", "forget05", None),
        ("1B retain90", "forget01", None),
    ],
)
def test_reference(shared: Path, log: str, split: str, rows: int | None) -> None:
    """Every real retain log against every forget split of the data."""
    path, view = shared / "data/tofu_eval_logs" / LOGS[log], tofu(shared, split)
    if rows is None:
        with pytest.raises(DataError, match="another forget split") as refused:
            matched(path, view)
        assert f"{split} has {len(view)}" in refused.value.problem
        return
    found = matched(path, view, "forget").views["forget"]
    assert found.keys == tuple(range(rows))
    backwards = Rows(split, view.items[::-1])
    found = matched(path, backwards, "forget").views["forget"]
    assert found.keys == tuple(range(len(view)))[::-1][:rows]


def test_forget_quality_compares_the_rows_both_have(shared: Path) -> None:
    """Of a log that stops at 300, under rows in another order."""
    folder, view = shared / "data/tofu_eval_logs", tofu(shared, "forget10")
    full = folder / "locuslab/llama2-7b_full_wd0.01.eval_log_aggregated.json"
    backwards = Rows("forget10", view.items[::-1])
    judged = MetricInputs(
        matched(full, view, "forgotten"),
        matched(folder / LOGS["7b retain90"], view, "forgotten"),
        {},
    )
    expected = ForgetQuality().score("quality", judged)
    assert expected["quality"] == pytest.approx(1.834066410995e-21, rel=1e-9)
    for rows in (backwards, view.first(300)):
        both = [matched(p, rows, "any") for p in (full, folder / LOGS["7b retain90"])]
        assert ForgetQuality().score("quality", MetricInputs(*both, {})) == expected
    mixed = matched(folder / LOGS["1B retain90"], backwards, "any")
    found = ForgetQuality().score("quality", MetricInputs(both[0], mixed, {}))
    assert found["quality"] != expected["quality"]


def test_a_digest_is_of_the_content(tmp_path: Path) -> None:
    one, other = tmp_path / "one.json", tmp_path / "other.json"
    one.write_text(TEXT)
    other.write_text(TEXT)
    assert digest(one) == digest(other)
    other.write_text(TEXT + " ")
    assert digest(one) != digest(other)
    with pytest.raises(DataError, match="cannot be read"):
        digest(tmp_path / "none.json")
