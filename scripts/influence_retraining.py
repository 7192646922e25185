"""Influence against retraining, on a model so small that both can be had exactly.

Trains a tiny adapter to a minimum of its risk with an L2 term, in float64; then for each of some
rows solves for the change that its removal (or a wrong answer put right) would cause, retrains
without it, and compares: cosine and relative distance of the two changes, the change of that row's
own loss as edited and as retrained, their rank correlation over rows, and random directions of
equal norm. Of `--task correct_response` the target has learnt a wrong answer to each of these rows,
and one is put right. `--share 0.1` takes a tenth of a row away in place of all of it: where the
edit is the first order of what retraining does, its distance to that falls with the share.

    python scripts/influence_retraining.py --rows 60 --removals 50
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from scipy.stats import spearmanr

from unlearn_runner.data.encode import Encoded, encode
from unlearn_runner.data.people import People
from unlearn_runner.data.prompts import Template
from unlearn_runner.methods.influence import Influence
from unlearn_runner.models.adapters.lora import LoRA
from unlearn_runner.models.forward import Models
from unlearn_runner.models.gradients import Gradient, GradientSpace
from unlearn_runner.models.load import in_precision, new_model, train_tokenizer
from unlearn_runner.models.shape import Shape
from unlearn_runner.training.influence.risk import Request, Risk
from unlearn_runner.training.influence.solve import System

TEMPLATE = Template(prompt="{question}\n", answer=" {answer}")
LENGTH, BASE = 24, 60
"""Tokens of a row at most; rows that the base is trained on."""
Change = Sequence[tuple[Encoded, float]]
RANDOM = 10
"""Random directions per row."""


class Bench:
    """A tiny adapter at the minimum of its rows' risk plus l2 / 2 |theta|^2."""

    def __init__(self, rows: int, l2: float, rank: int, seed: int) -> None:
        full = People(seed=seed, people=(rows + BASE) // 3 + 1, questions=3).read("full")
        short = [replace(row, question=" ".join(row.question.split()[-3:])) for row in full]
        texts = ["".join(TEMPLATE.texts(row.question, row.answer)) for row in short]
        tokenizer = train_tokenizer(texts, 400)
        encoded = [encode(tokenizer, TEMPLATE, r.question, r.answer, LENGTH) for r in short]
        answers = [r.answer for r in short]
        self.rows, base = encoded[:rows], encoded[rows : rows + BASE]
        # Row i with the answer to the same question about the next person.
        others = [*answers[3:rows], *answers[: min(3, rows)]]
        self.wrong = [
            encode(tokenizer, TEMPLATE, r.question, other, LENGTH)
            for r, other in zip(short[:rows], others, strict=False)
        ]
        shape = Shape(32, 50, num_layers=1, num_heads=2, tie_embeddings=True, context=128)
        model = new_model(shape, tokenizer, seed)
        optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
        for _ in range(4):
            for row in base:
                ids = torch.tensor([row.ids])
                model(input_ids=ids, labels=ids).loss.backward()
                optimizer.step()
                optimizer.zero_grad()
        lora = LoRA(rank=rank, alpha=2.0 * rank, dropout=0.0, regex="[qv]_proj")
        model = lora.attach(in_precision(model, "float64"), seed).eval()
        self.space = GradientSpace(model.named_parameters())
        pad = tokenizer.pad_token_id
        self.risk = Risk(Models(model, None, nullcontext), self.space, "token", 64, pad, l2)
        self.l2 = l2

    def fit(self, rows: list[Encoded], size: float, steps: int, change: Change = ()) -> float:
        """Minimises from where the weights are; returns the norm of the gradient that is left.

        The risk is that of the rows, and of others times a weight each: -1 takes one away.
        """
        space = self.space
        optimizer = torch.optim.LBFGS(
            space.parameters,
            max_iter=steps,
            history_size=50,
            tolerance_grad=1e-7,
            tolerance_change=0.0,
            line_search_fn="strong_wolfe",
        )

        def closure() -> float:
            optimizer.zero_grad()
            total: Any = sum(self.l2 / 2 * (p * p).sum() for p in space.parameters)
            weighted = [([row], weight) for row, weight in change]
            for some, weight in [(rows, 1.0), *weighted]:
                for part in self.risk.parts(some, size)():
                    total = total + weight * part.loss()
            total.backward()
            return float(total.detach())

        optimizer.step(closure)  # pyright: ignore[reportArgumentType]
        closure()
        return space.norm(space.collect())

    def loss(self, row: Encoded) -> float:
        """Returns the row's mean NLL."""
        (part,) = self.risk.parts([row], self.risk.size([row]))()
        with torch.no_grad():
            return float(part.loss())

    def moved(self, start: Gradient, delta: Gradient, row: Encoded) -> float:
        """Returns the row's loss at start + delta."""
        self.space.set_weights(self.space.add(self.space.copy(start), delta))
        found = self.loss(row)
        self.space.set_weights(start)
        return found

    def solve(self, request: Request, hessian: Any = "original") -> tuple[Gradient, float]:
        """Returns delta and its relative residual; there is no damping beside the L2 term."""
        method = Influence(rows=None, damping=0, tolerance=1e-3, iterations=300, hessian=hessian)
        system = System(method, request, self.risk, 0)
        at = system.begin()
        while not at.done:
            system.advance(at)
        if at.raised:
            raise SystemExit("the fine-tune is at no minimum: raise --l2")
        x = system.solver(at.facts, at.damping).solution(at.state, self.space)
        return x, at.history[-1]["residual"]


def compare(
    bench: Bench, removals: int, task: str, hessian: str = "original", share: float = 1.0
) -> dict[str, Any]:
    """Returns the comparison over single rows, each removed or, wrong so far, put right."""
    space, rng = bench.space, np.random.default_rng(0)
    found: dict[str, list[float]] = {}
    corrects = task == "correct_response"
    rows = [*bench.wrong[:removals], *bench.rows[removals:]] if corrects else bench.rows
    size = bench.risk.size(rows)
    left = bench.fit(rows, size, 1500)
    before = space.weights()
    for i in range(removals):
        right = bench.rows[i]
        request = Request(rows, [rows[i]], [right] if corrects else [])
        change = [(rows[i], -share), *([(right, share)] if corrects else [])]
        space.set_weights(before)
        old = bench.loss(right)
        delta, residual = bench.solve(request, hessian)
        delta = space.scale(delta, share)
        left = max(left, bench.fit(rows, size, 400, change))
        truth = space.add(space.weights(), before, -1.0)
        retrained = bench.loss(right)
        edited = bench.moved(before, delta, right) - old
        at_random = [
            abs(bench.moved(before, noise(space, rng, space.norm(delta)), right) - old)
            for _ in range(RANDOM)
        ]
        dot, a, b = space.dots((delta, truth), (delta, delta), (truth, truth))
        one = {
            "cosine": dot / (a * b) ** 0.5,
            "relative_distance": (a - 2 * dot + b) ** 0.5 / b**0.5,
            "edited": edited,
            "retrained": retrained - old,
            "error": abs(edited / (retrained - old) - 1),
            "random": float(np.mean(at_random)),
            "residual": residual,
        }
        for name, value in one.items():
            found.setdefault(name, []).append(value)
        print(json.dumps({"row": i, **{k: round(v, 6) for k, v in one.items()}}), flush=True)
    space.set_weights(before)
    sign = -1 if corrects else 1
    beats = [sign * e > r for e, r in zip(found["edited"], found["random"], strict=True)]
    return {
        "task": task,
        "hessian": hessian,
        "share": share,
        "rows": len(rows),
        "gradient_left": left,
        "parameters": sum(p.numel() for p in space.parameters),
        "rank_correlation": float(spearmanr(found["edited"], found["retrained"])[0]),
        "right_sign": float(np.mean([sign * e > 0 for e in found["edited"]])),
        "more_than_random": float(np.mean(beats)),
        **{f"median_{name}": float(np.median(values)) for name, values in found.items()},
    }


def noise(space: GradientSpace, rng: np.random.Generator, length: float) -> Gradient:
    """Returns a random direction of some length."""
    drawn: Gradient = [torch.from_numpy(rng.standard_normal(p.shape)) for p in space.parameters]
    return space.scale(drawn, length / space.norm(drawn))


def main() -> None:
    """Parses, compares, prints."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=60)
    parser.add_argument("--removals", type=int, default=50)
    parser.add_argument("--l2", type=float, default=1e-2)
    parser.add_argument("--rank", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--task", choices=("remove", "correct_response"), default="remove")
    parser.add_argument("--hessian", choices=("original", "new"), default="original")
    parser.add_argument("--share", type=float, default=1.0)
    args = parser.parse_args()
    if args.hessian == "new" and args.share != 1:
        raise SystemExit("--hessian new is of whole rows: --share 1")
    bench = Bench(args.rows, args.l2, args.rank, args.seed)
    removals = min(args.removals, args.rows)
    found = compare(bench, removals, args.task, args.hessian, args.share)
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
