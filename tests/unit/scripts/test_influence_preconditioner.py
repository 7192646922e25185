"""Preconditioned conjugate gradients of the script, in cases that are known by hand."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[3] / "scripts"))


def test_iterations_are_the_number_of_distinct_eigenvalues() -> None:
    from influence_preconditioner import iterations

    matrix, b = np.diag([1.0, 10.0, 100.0, 100.0]), np.ones(4)
    assert iterations(matrix, b, np.ones(4), (1e-9,)) == [3]
    assert iterations(matrix, b, np.diag(matrix), (1e-2, 1e-9)) == [1, 1]
    assert iterations(matrix, b, 7.0 * np.ones(4), (1e-9,)) == [3], "a scale is no preconditioner"


def test_a_matrix_is_solved_in_as_many_steps_as_it_has_rows() -> None:
    """Give or take one for rounding; far fewer would be a residual that is not one."""
    from influence_preconditioner import iterations

    rng = np.random.default_rng(0)
    half = rng.standard_normal((6, 6))
    matrix, b = half @ half.T + np.eye(6), rng.standard_normal(6)
    for diagonal in (np.ones(6), np.diag(matrix)):
        (steps,) = iterations(matrix, b, diagonal, (1e-8,))
        assert 4 <= steps <= 7
