"""Influence functions: one linear system in place of a training, and what its answer is worth."""
