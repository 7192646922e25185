"""Words that ROUGE compares, in any script.

`rouge_score` keeps a to z and 0 to 9 alone, so texts of other scripts have no words at all there.
Here every word counts, and what `rouge_score` does keep comes out as it does there:

- a run of Latin letters and digits with a-z or 0-9 in it is left to `rouge_score`, which splits it
  at accented letters ("García" is "garc" and "a"): published scores of English texts depend on it;
- any other run of letters is one word: Cyrillic, Greek, Hebrew, Arabic, Devanagari, Hangul, ...;
- scripts written without spaces between words (Han, kana, Thai, Lao, Khmer, Myanmar, Tibetan) are
  compared by character: segmenting into words needs a dictionary, whose edition would be part of
  the score, and characters are what ROUGE is usually computed on there;
- a text without a letter or digit is compared symbol by symbol, or two equal emoji would differ.
"""

from __future__ import annotations

import unicodedata
from functools import cache, lru_cache
from itertools import groupby
from typing import Any

from nltk.stem import porter
from rouge_score import tokenize

SPACELESS = ("CJK", "IDEOGRAPHIC", "HIRAGANA", "KATAKANA", "THAI", "LAO", "KHMER", "MYANMAR")
SPACELESS += ("TIBETAN",)
"""First words of the Unicode names of characters that are words by themselves."""


@cache
def _kind(character: str) -> str:
    """Returns which words a character makes: "latin", "other", "mark", "alone" or "between"."""
    category = unicodedata.category(character)[0]
    if category not in "LMN":
        return "between"
    script = unicodedata.name(character, "").replace("-", " ").split(" ")[0]
    if category == "M":
        return "mark"
    if script in SPACELESS:
        return "alone"
    return "latin" if script == "LATIN" or category == "N" else "other"


@cache
def _stemmer() -> Any:
    """Returns rouge_score's stemmer; texts repeat their words, and it takes longer than ROUGE."""
    stemmer = porter.PorterStemmer()
    stemmer.stem = lru_cache(2**16)(stemmer.stem)
    return stemmer


def words(text: str) -> list[str]:
    """Returns the words of a text in lower case, English ones stemmed."""
    if text.isascii():
        return tokenize.tokenize(text, _stemmer()) or list("".join(text.split()))
    text = unicodedata.normalize("NFC", text.lower())
    found: list[str] = []
    for kind, run in groupby(_pieces(text), key=lambda piece: piece[1]):
        pieces = [piece for piece, _ in run]
        if kind == "alone":
            found += pieces
        elif kind != "between":
            word = "".join(pieces)
            found += (kind == "latin" and tokenize.tokenize(word, _stemmer())) or [word]
    return found or list("".join(text.split()))


def _pieces(text: str) -> list[tuple[str, str]]:
    """Returns characters, each with the marks on it, and their kinds."""
    found: list[tuple[str, str]] = []
    for character in text:
        kind = _kind(character)
        if kind == "mark" and found and found[-1][1] != "between":
            found[-1] = (found[-1][0] + character, found[-1][1])
        else:
            found.append((character, "other" if kind == "mark" else kind))
    return found
