"""A penalty for saying the same again: the share of n-grams that are repeats."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal

from data.problem import Problem
from rl.experience import Completion

# Scripts that put no spaces between words; there each character counts as a word: kana, Han, Thai, Lao, Khmer, Burmese.
SPACELESS = (
    "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003134f\u0e00-\u0eff\u1780-\u17ff\u1000-\u109f"
)
WORD = re.compile(rf"[{SPACELESS}]|[^\W{SPACELESS}]+|[^\w\s]")


def repetition(
    problem: Problem,
    completion: Completion,
    *,
    ngram_size: int = 3,
    max_penalty: float = -1.0,
    unit: Literal["tokens", "words"] = "tokens",
) -> float:
    """max_penalty times the share of n-grams that occurred before: from 0 to nearly max_penalty for one word for ever.

        reward = max_penalty * (1 - distinct n-grams / n-grams)      arXiv:2502.03373, appendix C.2

    unit "tokens": n-grams of token ids, as TRL counts; the same in every language. "words": of lower-cased words and
    punctuation marks, independent of the tokenizer; a Chinese or Japanese character is a word. Fewer than ngram_size
    units: 0. (The paper puts the penalty on the repeated tokens themselves; one number for the completion is what
    became of it in open-r1 and TRL.) Linear in the length. Raises ValueError for options out of range.
    """
    if ngram_size < 1 or max_penalty > 0:
        raise ValueError(f"ngram_size >= 1 and max_penalty <= 0 needed, got {ngram_size} and {max_penalty}")
    units = completion.token_ids if unit == "tokens" else words(completion.text)
    share = repeated_share(units, ngram_size)
    return max_penalty * share if share else 0.0  # not -0.0


def words(text: str) -> list[str]:
    """Lower-cased words, one character each where a script has no spaces, and each punctuation mark."""
    return WORD.findall(text.lower())


def repeated_share(units: Sequence[int] | Sequence[str], ngram_size: int) -> float:
    """1 - distinct n-grams / n-grams; 0 if there are none."""
    ngrams = list(zip(*(units[start:] for start in range(ngram_size)), strict=False))
    return 1 - len(set(ngrams)) / len(ngrams) if ngrams else 0.0
