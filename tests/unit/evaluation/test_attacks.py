"""Attacks on worked blocks, rows and scores."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import norm
from torch import nn

from unlearn_runner.data.prompts import Template
from unlearn_runner.data.rows import QA, Rows
from unlearn_runner.errors import ConfigError
from unlearn_runner.evaluation.attacks.prompts import Begun, FewShot, Paraphrase, Prefix
from unlearn_runner.evaluation.attacks.quantise import NF4, Int8, Nf4
from unlearn_runner.evaluation.attacks.relearn import Relearn, spaced
from unlearn_runner.evaluation.attacks.verdict import Model, judge, robustness
from unlearn_runner.evaluation.benchmarks.base import Splits
from unlearn_runner.evaluation.evaluator import Evaluator
from unlearn_runner.evaluation.metrics.evidence import Evidence, Record, ViewEvidence
from unlearn_runner.evaluation.metrics.probability import Probability
from unlearn_runner.evaluation.schema import Generation

ROWS = Rows("forget", tuple(QA(f"Question {i}?", f"Answer {i}.") for i in range(10)))
KEPT = Rows("retain", tuple(QA(f"Kept {i}?", f"Known {i}.") for i in range(10)))
SPLITS = Splits(ROWS, ROWS, KEPT, Rows("pretrain", ()))
EVALUATOR = Evaluator(Template(), {"forget": ROWS}, Generation(), 100, "float32", 8)


def test_eight_bits_are_whole_multiples_of_a_row_s_own_scale() -> None:
    weight = torch.tensor(
        [[1.27, -0.014, 0.006, -0.005], [0.0, 0.0, 0.0, 0.0], [-12.7, 0, 0, 0.26]]
    )
    expected = torch.tensor([[1.27, -0.01, 0.01, 0.0], [0, 0, 0, 0], [-12.7, 0, 0, 0.3]])
    found = Int8().rounded(weight)
    assert torch.allclose(found[:, [0, 1, 3]], expected[:, [0, 1, 3]], atol=1e-6)
    assert found[0, 2].item() == pytest.approx(0.01)
    assert torch.allclose(Int8().rounded(found), found), "a second trip changes nothing"


def test_the_levels_of_four_bits_are_the_normal_distribution_s() -> None:
    """QLoRA, appendix E: quantiles between the two tails, eight above zero and seven below."""
    offset = 0.9677083
    above = norm.ppf(np.linspace(offset, 0.5, 9)[:-1])
    below = -norm.ppf(np.linspace(offset, 0.5, 8)[:-1])
    levels = np.sort([*above, 0.0, *below])
    assert pytest.approx(levels / levels.max(), abs=1e-6) == NF4


def test_four_bits_are_the_nearest_level_of_a_block() -> None:
    # Blocks of four in the flattened weight, the last one short: largest magnitudes 2, 0, 0.5.
    weight = torch.tensor([[2.0, 0.1, -0.6, 1.3, 0.0], [0.0, 0.0, 0.0, 0.5, -0.5]])
    found = Nf4(block=4).rounded(weight).flatten().tolist()
    # 0.1/2 is nearer to .0796 than to 0; -.3 to -.2844; .65 to .7230 than to .5626.
    first = [2.0, 2 * NF4[8], 2 * NF4[4], 2 * NF4[14]]
    assert found == pytest.approx([*first, 0, 0, 0, 0, 0.5, -0.5])
    alone = Nf4(block=4).rounded(weight[:, 3:4])
    assert alone.flatten().tolist() == pytest.approx([1.3, 1.3 * NF4[11]])  # .3846: .3379, .4407


def test_linear_maps_are_rounded_and_the_vocabulary_is_not() -> None:
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed, self.norm = nn.Embedding(4, 3), nn.LayerNorm(3)
            self.map, self.head = nn.Linear(3, 3), nn.Linear(3, 4, bias=False)

        def get_output_embeddings(self) -> nn.Module:
            return self.head

    model = Model()
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    Nf4().change(model)
    changed = {n for n, p in model.named_parameters() if not torch.equal(p, before[n])}
    assert changed == {"map.weight"}


def test_a_begun_answer_belongs_to_the_prompt() -> None:
    found = Begun(Template(), "Sure:").render(None, "Who?", "She did.")
    assert found.text[: found.prompt_end] == "Question: Who?\nAnswer: Sure:"
    assert found.text[found.prompt_end : found.answer_end] == " She did."
    evaluator = Prefix(before="Please. ", beginning="Sure:").evaluator(EVALUATOR, SPLITS)
    row = evaluator.views["forget"][3]
    assert (row.question, row.answer) == ("Please. Question 3?", "Answer 3.")
    assert row.rendered(None, evaluator.template).text.endswith("Answer: Sure: Answer 3.")
    assert Prefix(beginning="").evaluator(EVALUATOR, SPLITS).template == Template()


def test_examples_are_other_rows_and_the_answer_is_not_among_them() -> None:
    question = FewShot(rows="forget", shots=3).question("Question 8?", SPLITS)
    asked = Template().render(None, question, "Answer 8.").text
    assert asked == (
        "Question: Question 9?\nAnswer: Answer 9.\n\nQuestion: Question 0?\nAnswer: Answer 0.\n\n"
        "Question: Question 1?\nAnswer: Answer 1.\n\nQuestion: Question 8?\nAnswer: Answer 8."
    )
    every = FewShot(rows="forget", shots=99).question("Question 8?", SPLITS)
    assert every.count("Question: ") == 9
    assert "Answer 8." not in every
    assert FewShot(shots=1).question("Question 8?", SPLITS).startswith("Kept 0?\nAnswer: Known 0.")
    assert FewShot(shots=4).evaluator(EVALUATOR, SPLITS).max_length == 500


def test_a_paraphrase_depends_on_the_question_alone() -> None:
    attack = Paraphrase(("A {question}", "B {question}"))
    found = [row.question for row in attack.evaluator(EVALUATOR, SPLITS).views["forget"]]
    assert {text[0] for text in found} == {"A", "B"}
    assert all(text[2:] == row.question for text, row in zip(found, ROWS, strict=True))
    assert attack.question("Question 8?", SPLITS) == found[8]


def test_a_share_of_rows_is_evenly_spaced() -> None:
    kept = [row.answer for row in spaced(ROWS, 0.5)]
    assert kept == [f"Answer {i}." for i in (1, 3, 5, 7, 9)]
    assert [len(spaced(ROWS, share)) for share in (0.01, 0.1, 0.3, 0.99)] == [1, 1, 3, 9]
    assert Relearn(rows="retain").training(SPLITS).rows == KEPT
    with pytest.raises(ConfigError, match="no such rows"):
        Relearn(rows="pretrain").training(SPLITS)


def evidence(probabilities: list[float]) -> Evidence:
    record = Record({"answer": [[-np.log(p)] for p in probabilities]})
    views = {"forget": ViewEvidence("forget", "forget", "answer", record)}
    return Evidence(views | {"holdout": ViewEvidence("holdout", "unseen", "answer", record)})


def test_what_came_back_is_compared_with_what_the_attack_teaches() -> None:
    """Two people, ten times as many draws as there are kinds of samples: AA, AB, BB."""
    models: dict[Model, Evidence] = {
        "target": evidence([0.9, 0.7]),
        "unlearned": evidence([0.1, 0.3]),
        "attacked": evidence([0.5, 0.4]),
        "retain_model": evidence([0.2, 0.2]),
        "attacked_retain_model": evidence([0.3, 0.3]),
    }
    units, metrics = {"forget": (0, 1)}, {"probability": Probability()}
    (one,) = judge(models, units, metrics, trains=True)
    assert one["score"] == "forget.probability"
    # Of .8 - .2 came back .45 - .2; of .8 - .2 the retain model was taught .1.
    assert one["recovered"]["value"] == pytest.approx(0.25 / 0.6)
    assert one["control"]["value"] == pytest.approx(0.1 / 0.6)
    assert one["excess"]["value"] == pytest.approx(0.15 / 0.6)
    # Of the second person alone .1 of .4, of the first .4 of .8.
    assert (one["recovered"]["low"], one["recovered"]["high"]) == pytest.approx((0.25, 0.5))
    assert (one["excess"]["low"], one["excess"]["high"]) == pytest.approx((0.05, 0.5 - 0.1 / 0.7))
    assert one["robustness"] == pytest.approx(0.1 / 0.25)
    (one,) = judge({**models, "unlearned": models["target"]}, units, metrics, trains=True)
    assert one["recovered"] is None, "nothing was forgotten"
    del models["attacked_retain_model"]
    (one,) = judge(models, units, metrics, trains=True)
    assert one["control"] is one["excess"] is one["robustness"] is None


@pytest.mark.parametrize(
    ("before", "after", "retain", "attacked", "trains", "expected"),
    [
        (0.2, 0.4, 0.2, 0.3, True, 0.5),  # half as fast as the unlearned model
        (0.2, 0.4, 0.2, 0.7, True, 1.0),  # faster
        (0.2, 0.4, 0.2, 0.1, True, 0.0),  # the retain model only lost
        (0.2, 0.1, 0.2, 0.3, True, 1.0),  # nothing came back
        (0.2, 0.8, 0.0, 0.0, False, 0.25),
        (0.2, 0.1, 0.0, 0.0, False, 1.0),
        (0.0, 0.0, 0.0, 0.0, False, 1.0),
    ],
)
def test_robustness_is_the_paper_s(
    before: float, after: float, retain: float, attacked: float, trains: bool, expected: float
) -> None:
    models = {"unlearned": before, "attacked": after}
    models |= {"retain_model": retain, "attacked_retain_model": attacked}
    assert robustness(models, trains) == pytest.approx(expected)
