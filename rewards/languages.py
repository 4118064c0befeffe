r"""How many words of a text are in which language.

Maths, code, LaTeX, numbers and addresses are taken out first. What is left is cut into sentences and, within each,
into scripts: a Latin part and a Han part of one sentence are judged apart. Scripts that one language uses decide by
themselves (kana make the Han around them Japanese). Everything else is put to py3langid (naive Bayes over byte
n-grams, BSD-3-Clause, a 4.5 MB model, no network), of which an answer counts from a probability of 0.7. Parts that
are too short for that are judged once more, all of one script together; if that fails too they count for no language.

Why this library: the share of 105 sentences of school mathematics in seven languages of Latin script, and of pieces of
them, of which each says the right language:

                               whole   6 words   3 words   memory   chooses among
    py3langid 0.4              1.000     1.000     0.951   0.1 GB   26 languages
    lingua 2.1                 1.000     0.991     0.940   0.9 GB    8
    lingua, low accuracy mode  0.952     0.899     0.815   0.1 GB    8
    langdetect 1.0             0.990     0.945     0.758   0.1 GB   55; random unless seeded
    lists of stop words        0.914     0.908     0.675   none      7

With a probability of 0.7 or more py3langid took 1 of 1,935 pieces of 1 to 13 words for a language that it was not.
"""

from __future__ import annotations

import functools
import re
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

SURE = 0.7  # the probability from which the library's answer counts
MAX_CHARS = 200_000  # of a text are judged: a fifth of a second
MAX_WORDS = 40  # judged at once: a longer sentence is cut, for its language may change on the way

# Languages that a policy may plausibly fall into; the one asked for is added. Fewer are told apart more surely.
CODES = "ar bg cs da de el en es fa fi fr he hi hu id it ja ko nl pl pt ro ru sv th tr uk vi zh"
CANDIDATES = frozenset(CODES.split())

KANA = "\u3040-\u30ff\uff66-\uff9f"
SCRIPTS = {  # name -> its letters, as a class of a regular expression
    "han": "\u3005\u3007\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003134f" + KANA,
    "hangul": "\u1100-\u11ff\u3130-\u318f\uac00-\ud7af",
    "thai": "\u0e00-\u0e7f",
    "greek": "\u0370-\u03ff\u1f00-\u1fff",
    "hebrew": "\u0590-\u05ff",
    "cyrillic": "\u0400-\u052f",
    "arabic": "\u0600-\u06ff\u0750-\u077f\ufb50-\ufdff\ufe70-\ufeff",
    "indic": "\u0900-\u0dff",
    "latin": "A-Za-z\u00aa\u00ba\u00c0-\u024f\u1e00-\u1eff\uff21-\uff3a\uff41-\uff5a",
    "other": r"^\W\d_",
}
OF_ONE_LANGUAGE = {"hangul": "ko", "thai": "th", "greek": "el", "hebrew": "he"}
CHARS_PER_WORD = {"han": 2, "thai": 4}  # scripts without spaces: so many characters are counted as a word
WORD = "|".join(f"(?P<{name}>[{letters}]{{1,100}})" for name, letters in SCRIPTS.items())
TOKEN = re.compile(WORD + "|(?P<end>[.!?;:]+(?=\\s|$)|\n|[\u3002\uff01\uff1f\uff1b\uff1a\u0964])")
KANA_LETTER = re.compile(f"[{KANA}]")

PAIRS = (("```", "```"), ("$$", "$$"), ("\\[", "\\]"), ("\\(", "\\)"))  # what stands between is no language
NOISE = re.compile(
    r"`[^`\n]{1,300}`"
    r"|\$(?!\s)[^$\n]{1,300}(?<!\s)\$(?!\d)"  # maths, but not "$5 and $6"
    r"|\\begin\{[a-z]{1,20}\*?\}|\\end\{[a-z]{1,20}\*?\}|\\[A-Za-z]{1,30}"
    r"|(?:https?://|www\.)\S{1,500}"
    r"|</?[a-z]{1,20}>"
)


def words_by_language(text: str, *, expected: str | None = None, sure: float = SURE) -> dict[str, float]:
    """Language code (ISO 639-1) -> number of its words in the first 200,000 characters; "" for those of no language.

    A single letter is no word but a variable. Two characters of Chinese or Japanese count as one word. `expected` is
    a language to choose from besides the usual ones. `sure`: the probability from which a judgement counts.
    """
    counts: dict[str, float] = defaultdict(float)
    unsure: dict[str, list[str]] = defaultdict(list)
    for sentence in _sentences(_language_only(text[:MAX_CHARS])):
        for script, words in sentence.items():
            language = _language(script, words, expected, sure)
            if language:
                counts[language] += _number(script, words)
            else:
                unsure[script] += words
    for script, words in unsure.items():
        for start in range(0, len(words), MAX_WORDS):
            some = words[start : start + MAX_WORDS]
            counts[_language(script, some, expected, sure)] += _number(script, some)
    return {language: number for language, number in counts.items() if number}


def main_language(text: str, *, expected: str | None = None, sure: float = SURE) -> str:
    """The language of at least half of the words of the text; "" if there is none."""
    counts = words_by_language(text, expected=expected, sure=sure)
    language = max(counts, key=lambda name: counts[name], default="")
    return language if language and counts[language] * 2 >= sum(counts.values()) else ""


def known_languages() -> list[str]:
    """The codes of all languages that can be expected."""
    return sorted(_library().labels)


def _language_only(text: str) -> str:
    """The text with spaces for what is no language. Linear: an opening mark is searched for its end once."""
    for opening, closing in PAIRS:
        pieces, position = [], 0
        while (start := text.find(opening, position)) >= 0:
            end = text.find(closing, start + len(opening))
            if end < 0:
                break
            pieces += [text[position:start], " "]
            position = end + len(closing)
        text = "".join([*pieces, text[position:]])
    return NOISE.sub(" ", text)


def _sentences(text: str) -> Iterator[dict[str, list[str]]]:
    """The words of each sentence by script, in order and at most MAX_WORDS at once; single letters left out."""
    sentence: dict[str, list[str]] = defaultdict(list)
    for match in TOKEN.finditer(text):
        script = str(match.lastgroup)
        if script == "end":
            yield sentence
            sentence = defaultdict(list)
        elif script in CHARS_PER_WORD or len(match.group()) > 1:
            sentence[script].append(match.group())
            if len(sentence[script]) == MAX_WORDS:
                yield {script: sentence.pop(script)}
    yield sentence


def _number(script: str, words: list[str]) -> float:
    return sum(map(len, words)) / CHARS_PER_WORD[script] if script in CHARS_PER_WORD else len(words)


def _language(script: str, words: list[str], expected: str | None, sure: float) -> str:
    """The language of these words of one script, or "" if that cannot be told."""
    if script in OF_ONE_LANGUAGE:
        return OF_ONE_LANGUAGE[script]
    text = ("" if script == "han" else " ").join(words)
    if script == "han" and KANA_LETTER.search(text):
        return "ja"
    return _judged(text, None if expected in CANDIDATES else expected, sure)


@functools.lru_cache(maxsize=5_000)  # the sentences of a group repeat
def _judged(text: str, extra: str | None, sure: float) -> str:
    """The most probable of the candidates and `extra` if its share of their probability is at least `sure`."""
    ranked = [(language, p) for language, p in _library().rank(text) if language in CANDIDATES or language == extra]
    language, probability = ranked[0]
    return str(language) if probability and probability >= sure * sum(p for _, p in ranked) else ""


@functools.cache
def _library() -> Any:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier  # half a second: only where it is needed

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
