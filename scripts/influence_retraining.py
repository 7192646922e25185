"""Influence against retraining, on a model so small that both can be had exactly.

Trains a tiny adapter to a minimum of its risk with an L2 term, in float64; then for each of some
rows solves for the change that its removal (or a wrong answer put right) would cause, retrains
without it, and compares: cosine and relative distance of the two changes, the change of that row's
own loss as predicted and as retrained, their rank correlation over rows, and a random direction of
equal norm.

    python scripts/influence_retraining.py --rows 40 --removals 40
"""

from __future__ import annotations

import argparse
import json
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


class Bench:
    """A tiny adapter at the minimum of its rows' risk plus l2 / 2 |theta|^2."""

    def __init__(self, rows: int, l2: float, rank: int, seed: int) -> None:
        full = People(seed=seed, people=40, questions=3).read("full")
        short = [replace(row, question=" ".join(row.question.split()[-3:])) for row in full]
        texts = ["".join(TEMPLATE.texts(row.question, row.answer)) for row in short]
        tokenizer = train_tokenizer(texts, 400)
        encoded = [encode(tokenizer, TEMPLATE, r.question, r.answer, 28) for r in short]
        answers = [r.answer for r in short]
        self.rows, base = encoded[:rows], encoded[60:]
        # Row i with the answer to the same question about the next person.
        others = [*answers[3:rows], *answers[: min(3, rows)]]
        self.wrong = [
            encode(tokenizer, TEMPLATE, r.question, other, 28)
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
        self.risk = Risk(Models(model, None, nullcontext), self.space, "token", 64, pad)
        self.l2 = l2

    def fit(self, rows: list[Encoded], size: float, steps: int = 150) -> float:
        """Minimises from where the weights are; returns the norm of the gradient that is left."""
        parameters = self.space.parameters
        optimizer = torch.optim.LBFGS(
            parameters,
            max_iter=steps,
            history_size=50,
            tolerance_grad=1e-7,
            tolerance_change=0.0,
            line_search_fn="strong_wolfe",
        )

        def closure() -> float:
            optimizer.zero_grad()
            total: Any = sum(self.l2 / 2 * (p * p).sum() for p in parameters)
            for part in self.risk.parts(rows, size)():
                total = total + part.loss()
            total.backward()
            return float(total.detach())

        optimizer.step(closure)  # pyright: ignore[reportArgumentType]
        slope = self.risk.gradient(rows, size)
        return self.space.norm(self.space.add(slope, self.space.weights(), self.l2))

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
        """Returns delta and its relative residual; the L2 term is the damping."""
        method = Influence(rows=None, tolerance=1e-5, iterations=300, hessian=hessian)
        system = System(method, request, self.risk, 0)
        at = system.begin()
        at.damping = self.l2
        at.state = system.solver(at.facts, self.l2).begin(at.b, self.space)
        while not at.done:
            system.advance(at)
        if at.damping != self.l2:
            raise SystemExit("the fine-tune is at no minimum: raise --l2")
        x = system.solver(at.facts, at.damping).solution(at.state, self.space)
        return x, at.history[-1]["residual"]


def compare(bench: Bench, removals: int, task: str, hessian: str) -> dict[str, Any]:
    """Returns the comparison over single rows, each removed, or corrupted first and put right."""
    space, rng = bench.space, np.random.default_rng(0)
    found: dict[str, list[float]] = {}
    clean, size = bench.rows, bench.risk.size(bench.rows)
    left = bench.fit(clean, size, 800)
    start = space.weights()
    for i in range(removals):
        rows, row = list(clean), clean[i]
        space.set_weights(start)
        if task == "remove":
            request, after = Request(rows, [row]), [*rows[:i], *rows[i + 1 :]]
            size = bench.risk.size(rows)
        else:
            rows[i] = bench.wrong[i]
            size = bench.risk.size(rows)
            bench.fit(rows, size)
            request, after = Request(rows, [bench.wrong[i]], [row]), list(clean)
        before, old = space.weights(), bench.loss(row)
        delta, residual = bench.solve(request, hessian)
        bench.fit(after, size)
        truth = space.add(space.weights(), before, -1.0)
        retrained = bench.loss(row)
        space.set_weights(before)
        noise: Gradient = [torch.from_numpy(rng.standard_normal(p.shape)) for p in space.parameters]
        noise = space.scale(noise, space.norm(delta) / space.norm(noise))
        dot, a, b = space.dots((delta, truth), (delta, delta), (truth, truth))
        one = {
            "cosine": dot / (a * b) ** 0.5,
            "relative_distance": (a - 2 * dot + b) ** 0.5 / b**0.5,
            "predicted": bench.moved(before, delta, row) - old,
            "retrained": retrained - old,
            "random": bench.moved(before, noise, row) - old,
            "residual": residual,
        }
        for name, value in one.items():
            found.setdefault(name, []).append(value)
        print(json.dumps({"row": i, **{k: round(v, 6) for k, v in one.items()}}), flush=True)
    right = [p * (1 if task == "remove" else -1) > 0 for p in found["predicted"]]
    beats = [abs(p) > abs(r) for p, r in zip(found["predicted"], found["random"], strict=True)]
    return {
        "task": task,
        "hessian": hessian,
        "gradient_left": left,
        "parameters": sum(p.numel() for p in space.parameters),
        "rank_correlation": float(spearmanr(found["predicted"], found["retrained"])[0]),
        "right_sign": float(np.mean(right)),
        "more_than_random": float(np.mean(beats)),
        **{f"median_{name}": float(np.median(values)) for name, values in found.items()},
    }


def main() -> None:
    """Parses, compares, prints."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=40)
    parser.add_argument("--removals", type=int, default=40)
    parser.add_argument("--l2", type=float, default=1e-2)
    parser.add_argument("--rank", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--task", choices=("remove", "correct_response"), default="remove")
    parser.add_argument("--hessian", choices=("original", "new"), default="original")
    args = parser.parse_args()
    bench = Bench(args.rows, args.l2, args.rank, args.seed)
    found = compare(bench, min(args.removals, args.rows), args.task, args.hessian)
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
