"""The evaluator to be measured against: one pass over the rows for every metric that wants them.

What published code does (open-unlearning's evaluation): batches of 32 in the order of the file,
logits and losses of every position, the vocabulary axis kept for metrics of tokens, transformers'
`generate` to 200 tokens, everything computed again for the next metric. As it does, losses are
of a copy of the logits without the last position, and a prompt is tokenised once more, alone.
Rows in tokens are the runner's, so that both sides score the same ones; nothing else is shared.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from rouge_score import rouge_scorer
from torch import Tensor
from torch.nn.functional import cross_entropy, log_softmax

from unlearn_runner.data.encode import Encoded, encode_row
from unlearn_runner.data.prompts import Prompting
from unlearn_runner.data.rows import Row, Rows

BATCH, NEW_TOKENS, K = 32, 200, 0.4
IGNORED = -100
Scores = dict[str, list[float] | list[str]]
"""Row by row, by "view.metric", wrong answers one after another."""


@dataclass(frozen=True)
class Scored:
    """A batch's labels, those of prompts and padding ignored, and the logits that predict them."""

    labels: Tensor
    logits: Tensor

    def rows(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Yields each row's labels and log-probabilities over the vocabulary, its end left out."""
        logp = log_softmax(self.logits, dim=-1)
        for labels, row in zip(self.labels, logp, strict=True):
            scored = (labels != IGNORED).nonzero()[:-1, 0]
            yield labels[scored], row[scored]


@dataclass(frozen=True)
class PlainEvaluator:
    """A model and how it is asked."""

    model: Any
    tokenizer: Any
    template: Prompting
    views: dict[str, Rows]
    """`forget`, `retain`, `real_authors`, `world_facts`, `holdout`."""

    def run(self, full: bool) -> Scores:
        """Returns the scores of the default suite, or of the full one."""
        found: Scores = {}
        for view in ("forget", "retain", "real_authors", "world_facts"):
            self._answers(found, view)
            self._texts(found, view)
        attacks: dict[str, Callable[[str], list[float]]] = {"privleak": self._min_k}
        if full:
            attacks |= {
                "mia_loss": self._losses,
                "mia_zlib": self._zlib,
                "mia_min_k": self._min_k,
                "mia_min_k_plus_plus": self._min_k_plus_plus,
            }
            found["forget.exact_memorisation"] = self._exact()
        found["forget.extraction_strength"] = self._extraction()
        for name, attack in attacks.items():
            for view in ("forget", "holdout"):
                found[f"{view}.{name}"] = attack(view)
        return found

    # --- passes

    def _encoded(self, view: str, texts: Callable[[Row], Sequence[str | None]]) -> list[Encoded]:
        found = []
        for row in self.views[view]:
            for text in texts(row):
                self.tokenizer(self.template.render(self.tokenizer, row.question, "").text)
                found.append(encode_row(self.tokenizer, self.template, row, 512, view, text))
        return found

    def _pass(
        self, view: str, texts: Callable[[Row], Sequence[str | None]] = lambda _: (None,)
    ) -> Iterator[Scored]:
        """Yields the model's answers to rows, batch by batch."""
        rows, pad = self._encoded(view, texts), self.tokenizer.pad_token_id
        for start in range(0, len(rows), BATCH):
            chosen = rows[start : start + BATCH]
            longest = max(len(row.ids) for row in chosen)
            ids = torch.full((len(chosen), longest), pad)
            labels = torch.full((len(chosen), longest), IGNORED)
            for i, row in enumerate(chosen):
                ids[i, : len(row.ids)] = torch.tensor(row.ids)
                answer = slice(row.prompt_length, len(row.ids))
                labels[i, answer] = ids[i, answer]
            with torch.no_grad():
                out = self.model(input_ids=ids, attention_mask=(ids != pad).long(), labels=labels)
            yield Scored(labels[:, 1:], out.logits[:, :-1])

    def _losses(self, view: str, texts: Any = lambda _: (None,)) -> list[float]:
        found: list[float] = []
        for scored in self._pass(view, texts):
            flat = scored.logits.contiguous().transpose(1, 2)
            losses = cross_entropy(flat, scored.labels, ignore_index=IGNORED, reduction="none")
            counts = (scored.labels != IGNORED).sum(-1)
            found += (losses.sum(-1) / counts).tolist()
        return found

    # --- metrics

    def _answers(self, found: Scores, view: str) -> None:
        """Probability of the right answer, of its paraphrase, of the wrong ones: a pass each."""
        found[f"{view}.answer"] = self._losses(view)
        if self.views[view][0].paraphrased_answer is not None:
            found[f"{view}.paraphrased"] = self._losses(view, lambda r: (r.paraphrased_answer,))
        found[f"{view}.perturbed"] = self._losses(view, lambda r: r.perturbed_answers)

    def _zlib(self, view: str) -> list[float]:
        sizes = [len(zlib.compress(row.answer.encode())) for row in self.views[view]]
        return [loss / size for loss, size in zip(self._losses(view), sizes, strict=True)]

    def _exact(self) -> list[float]:
        return [
            float((logp.argmax(-1) == labels).float().mean())
            for scored in self._pass("forget")
            for labels, logp in scored.rows()
        ]

    def _extraction(self) -> list[float]:
        found = []
        for scored in self._pass("forget"):
            for labels, logp in scored.rows():
                said, k = logp.argmax(-1), 0
                while k < len(labels) - 1 and not torch.equal(said[k:], labels[k:]):
                    k += 1
                found.append(1 - k / len(labels))
        return found

    def _min_k(self, view: str) -> list[float]:
        return [
            _lowest(logp.gather(1, labels[:, None])[:, 0])
            for scored in self._pass(view)
            for labels, logp in scored.rows()
        ]

    def _min_k_plus_plus(self, view: str) -> list[float]:
        """Runs the model twice: for the tokens' log-probabilities, and for their moments."""
        found = []
        for scored, again in zip(self._pass(view), self._pass(view), strict=True):
            for (labels, logp), (_, others) in zip(scored.rows(), again.rows(), strict=True):
                p = others.exp()
                mean = (p * others).sum(-1)
                variance = (p * others.square()).sum(-1) - mean.square()
                label = logp.gather(1, labels[:, None])[:, 0]
                found.append(_lowest((label - mean) / variance.clamp(min=1e-6).sqrt()))
        return found

    def _texts(self, found: Scores, view: str) -> None:
        """Generated answers, and their ROUGE."""
        rows, pad = self._encoded(view, lambda _: (None,)), self.tokenizer.pad_token_id
        texts: list[str] = []
        recalls: list[float] = []
        for start in range(0, len(rows), BATCH):
            prompts = [row.ids[: row.prompt_length] for row in rows[start : start + BATCH]]
            longest = max(map(len, prompts))
            ids = torch.tensor([[pad] * (longest - len(p)) + list(p) for p in prompts])
            out = self.model.generate(
                ids,
                attention_mask=(ids != pad).long(),
                max_new_tokens=NEW_TOKENS,
                do_sample=False,
                pad_token_id=pad,
            )
            said = self.tokenizer.batch_decode(out[:, longest:], skip_special_tokens=True)
            scorer = rouge_scorer.RougeScorer(["rouge1", "rougeL"], use_stemmer=True)
            for text, row in zip(said, self.views[view].items[start : start + BATCH], strict=True):
                texts.append(text.strip())
                recalls.append(scorer.score(row.answer, text.strip())["rougeL"].recall)
        found[f"{view}.texts"], found[f"{view}.rouge_l"] = texts, recalls


def _lowest(values: Tensor) -> float:
    count = max(1, int(len(values) * K))
    return -float(values.sort().values[:count].mean())
