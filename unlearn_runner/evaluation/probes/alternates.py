"""Alternates: other answers to a question, sampled from the model.

A model that knows an answer by heart repeats it at any usual temperature, so a sample that repeats
the answer, or another sample, is drawn again, hotter each time.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch

from unlearn_runner.data.encode import encode_row, stops
from unlearn_runner.data.prompts import Prompting
from unlearn_runner.data.rows import Rows
from unlearn_runner.distributed.ranks import ALONE, Ranks
from unlearn_runner.evaluation.probes.generations import continue_prompts
from unlearn_runner.methods.base import Alternates
from unlearn_runner.utils.progress import progress

BATCH = 32  # part of the draw: another batch would see other random numbers
HOTTER = 1.5
ROUNDS = 6  # 1.5^5 = 7.6 times as hot; what still repeats the answer then is kept


def sample(
    model: Any,
    tokenizer: Any,
    template: Prompting,
    rows: Rows,
    setting: Alternates,
    seed: int,
    ranks: Ranks = ALONE,
) -> list[list[str]]:
    """Returns `setting.number` answers per row, none empty.

    A function of the seed and the model on one kind of device. Every rank must call it: each draws
    its share of a round's batches, whose random numbers are their own, and all go through them in
    the same order, so the answers do not depend on how many ranks there are.
    """
    instructions = [
        setting.instruction.replace("{question}", row.question).replace("{answer}", row.answer)
        for row in rows
    ]
    encoded = [
        encode_row(tokenizer, template, replace(row, question=text), 1 << 30, rows.name, "A")
        for row, text in zip(rows, instructions, strict=True)
    ]
    prompts = [row.ids[: row.prompt_length] for row in encoded]
    ends = stops(tokenizer, template)
    found: list[list[str]] = [[] for _ in prompts]
    with progress("alternates", len(prompts) * setting.number) as tick:
        for turn in range(ROUNDS):
            missing = [
                i for i, texts in enumerate(found) for _ in range(setting.number - len(texts))
            ]
            drawn: dict[int, list[str]] = {}
            for start in ranks.shard(range(0, len(missing), BATCH)):
                at_once = missing[start : start + BATCH]
                chosen = [prompts[i] for i in at_once]
                torch.manual_seed(seed * 1_000_003 + turn * 10_007 + start)
                tokens = continue_prompts(
                    model,
                    tokenizer,
                    chosen,
                    ends,
                    setting.max_new_tokens,
                    do_sample=True,
                    temperature=setting.temperature * HOTTER**turn,
                    top_p=1.0,
                    top_k=0,
                    images=[encoded[i].image for i in at_once],
                )
                texts = tokenizer.batch_decode(tokens, skip_special_tokens=True)
                drawn[start] = [text.strip() for text in texts]
            parts = {
                start: texts for part in ranks.all_gather(drawn) for start, texts in part.items()
            }
            texts = [text for start in sorted(parts) for text in parts[start]]
            for i, text in zip(missing, texts, strict=True):
                last = turn == ROUNDS - 1
                if last or (text and text not in (rows[i].answer, *found[i])):
                    found[i].append(text or "...")
                    tick(1)
    return found
