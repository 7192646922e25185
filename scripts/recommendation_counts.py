"""Counting beside a model: what of a recommendation benchmark's questions it gets right.

Learns from the users whom a from-scratch base is pre-trained on and answers the last question of
others, by a candidate's number of users, by how often it came right after the last item of the
history, and by how often it came within three items behind any of the history. No model: a bound
from below on what can be learnt.

    python scripts/recommendation_counts.py -- benchmark=movielens benchmark.data_dir=FOLDER
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from typing import Any

from unlearn_runner.api import compose
from unlearn_runner.data.recommendation.records import Record

NEAR = 3
"""Items behind one that count as following it."""
Score = Callable[[Record, int], float]


def rules(histories: Iterable[Sequence[int]]) -> dict[str, Score]:
    """Returns what each rule thinks of a candidate."""
    popular, next_one, near = Counter[int](), Counter[tuple[int, int]](), Counter[tuple[int, int]]()
    for seen in histories:
        popular.update(seen)
        next_one.update(pairwise(seen))
        for i, item in enumerate(seen):
            near.update((item, other) for other in seen[i + 1 : i + 1 + NEAR])
    return {
        "chance": lambda record, item: 0.0,
        "popularity": lambda record, item: popular[item],
        "followed the last": lambda record, item: next_one[record.history[-1], item],
        "followed any": lambda record, item: sum(near[old, item] for old in record.history),
    }


def share(records: Sequence[Record], score: Score) -> float:
    """Returns the share of records whose target has the best score; of equals, its part."""
    hits = 0.0
    for record in records:
        found = {item: score(record, item) for item in record.candidates}
        best = [item for item, value in found.items() if value == max(found.values())]
        hits += (record.target in best) / len(best)
    return hits / len(records)


def main() -> None:
    """Counts, and prints a share per rule."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--split", choices=("validation", "test"), default="test")
    parser.add_argument("overrides", nargs="*")
    args = parser.parse_args()
    benchmark: Any = compose(*args.overrides).benchmark
    data = benchmark.source.read().popular(benchmark.items)
    learned = {record.user for record in benchmark.records("pretrain", 1)}
    records = benchmark.records(args.split, 1)
    print(f"{len(learned)} users counted, {len(records)} questions")
    for name, score in rules(data.users[user] for user in sorted(learned)).items():
        print(f"{name:18} {share(records, score):.3f}")


if __name__ == "__main__":
    main()
