"""Does a preconditioner pay? Iterations of CG with and without one, where H can be had exactly.

At the converged tiny adapter of `influence_retraining.py` it takes H by its products with every
unit vector, and solves for the removal of each of some rows, to a relative residual of 1e-2 and
1e-4: plainly, with the diagonal of the Fisher information (mean of squared gradients of rows, one
pass), and with H's own diagonal, which nobody has and no estimate of it can do better than.

    python scripts/influence_preconditioner.py --rows 60 --removals 20 --rank 1
"""

from __future__ import annotations

import argparse
import json
from typing import Any

import numpy as np
import torch
from influence_retraining import Bench
from numpy.typing import NDArray

from unlearn_runner.models.gradients import Gradient

Floats = NDArray[np.float64]
TOLERANCES = (1e-2, 1e-4)
MOST = 2000


def iterations(matrix: Floats, b: Floats, diagonal: Floats, tolerances: Any) -> list[int]:
    """Returns after how many steps of preconditioned CG |A x - b| / |b| is first below each."""
    x, r = np.zeros_like(b), b.copy()
    z = r / diagonal
    p, rz, found = z.copy(), r @ z, []
    for step in range(1, MOST + 1):
        ap = matrix @ p
        alpha = rz / (p @ ap)
        x, r = x + alpha * p, r - alpha * ap
        while len(found) < len(tolerances) and (
            np.linalg.norm(r) <= tolerances[len(found)] * np.linalg.norm(b)
        ):
            found.append(step)
        if len(found) == len(tolerances):
            break
        z, before = r / diagonal, rz
        rz = r @ z
        p = z + rz / before * p
    return [*found, *[MOST] * (len(tolerances) - len(found))]


def flat(vector: Gradient) -> Floats:
    """Returns a gradient as one array."""
    return np.concatenate([entry.numpy().ravel() for entry in vector if entry is not None])


def hessian(bench: Bench, rows: Any, size: float) -> Floats:
    """Returns H with its L2 term, column by column."""
    columns = []
    for at, parameter in enumerate(bench.space.parameters):
        for i in range(parameter.numel()):
            one = [torch.zeros_like(p) for p in bench.space.parameters]
            one[at].view(-1)[i] = 1.0
            columns.append(flat(bench.risk.product("double", rows, size, [*one])))
    found = np.stack(columns)
    return (found + found.T) / 2 + bench.l2 * np.eye(len(found))


def compare(bench: Bench, removals: int, shares: tuple[float, ...]) -> list[dict[str, Any]]:
    """Returns median iterations, with each damping (a share of the largest eigenvalue) and way."""
    rows = bench.rows
    size = bench.risk.size(rows)
    left = bench.fit(rows, size, 1500)
    matrix = hessian(bench, rows, size)
    # Of a sum over a row's tokens, by the number of all tokens: their own products are left out.
    gradients = np.stack([flat(bench.risk.gradient([row], 1.0)) for row in rows])
    values = np.linalg.eigvalsh(matrix)
    ways = {
        "none": np.ones(len(matrix)),
        "fisher_diagonal": (gradients**2).sum(0) / size + bench.l2,
        "hessian_diagonal": np.diag(matrix),
    }
    found = []
    for share in shares:
        damping = share * values[-1]
        damped = matrix + damping * np.eye(len(matrix))
        for name, diagonal in ways.items():
            by = diagonal + damping if name != "none" else diagonal
            spread = np.linalg.eigvals(damped / by[:, None]).real
            steps = [iterations(damped, b / size, by, TOLERANCES) for b in gradients[:removals]]
            found.append(
                {
                    "damping": share,
                    "preconditioner": name,
                    **{
                        f"iterations_{t:g}": float(np.median([s[i] for s in steps]))
                        for i, t in enumerate(TOLERANCES)
                    },
                    "condition": float(spread.max() / spread.min()),
                    "parameters": len(matrix),
                    "gradient_left": left,
                }
            )
    return found


def main() -> None:
    """Parses, compares, prints."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=60)
    parser.add_argument("--removals", type=int, default=20)
    parser.add_argument("--l2", type=float, default=1e-2)
    parser.add_argument("--rank", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    bench = Bench(args.rows, args.l2, args.rank, args.seed)
    for line in compare(bench, args.removals, (0.0, 1e-3)):
        print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
