r"""Instructions that a program can verify: the 25 kinds of IFEval (arXiv:2311.07911), on the text after </think>.

A problem names its instructions as the public data set does, column for column:

    metadata["instruction_id_list"]   ["punctuation:no_comma", "length_constraints:number_words"]
    metadata["kwargs"]                [{}, {"relation": "at least", "num_words": 300}]        None counts as absent

Here each kind is a function of the text and of those arguments. They decide as IFEval's own program does, except:
keywords are taken literally, not as regular expressions; sentences are counted by a rule of ours, not by NLTK's punkt
(both take "Dr. Who came." as one); languages are told by rewards/languages.py, not by langdetect; and an instruction
that cannot be read makes the problem bad_gold, where IFEval draws missing numbers at random. All are linear in the
length of the text.
"""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

from data.problem import Problem
from rewards.languages import known_languages, main_language
from rewards.thinking import split_thinking
from rl.experience import Completion, Prompt, Verdict

LANGUAGE_SURE = 0.5  # the response as a whole is judged: the most probable language is its language
OPTIONS = ("My answer is yes.", "My answer is no.", "My answer is maybe.")  # of constrained_response
TITLE_END = re.compile(r"(?:^|[\s(\"'])(?:[A-HJ-Z]|(?i:mr|mrs|ms|dr|prof|st|jr|sr|vs))$")
ABBREVIATION = re.compile(r"(?:^|[\s(\"'])(?:etc|inc|ltd|co|[a-z](?:\.[a-z]){1,5})$", re.IGNORECASE)
SENTENCE_END = re.compile(r"[.!?]+[\"')\]\u201d\u2019*_]{0,5}(?=\s|$)|[\u3002\uff01\uff1f]+")
CAPITAL_WORD = re.compile(r"[^\W_]+(?:[-.&'\u2019][^\W_]+)*")
FENCES = ("```json", "```Json", "```JSON", "```")


class Undecided(Exception):  # noqa: N818
    """Whether an instruction was followed cannot be told."""


def instructions(
    problem: Problem,
    completion: Completion,
    *,
    prompt: Prompt,
    mode: Literal["strict", "loose"] = "strict",
    score: Literal["fraction", "all_or_nothing"] = "fraction",
) -> float:
    """The fraction of the instructions that were followed, or 1 only if all were.

    "loose" accepts an instruction if it holds for the answer or for any variant of it that IFEval allows: without its
    first line, its last line or both, each with and without asterisks. no_answer: nothing after the thinking.
    bad_gold: an unknown instruction, or arguments that it does not take. undecided: in which language the answer is
    cannot be told.
    """
    try:
        checks = _checks(problem)
    except ValueError as error:
        return Verdict(state="bad_gold", reason=f"problem {problem.id}: {error}")
    _, answer = split_thinking(prompt, completion)
    if not answer.strip():
        return Verdict(state="no_answer", reason="nothing after the thinking")
    texts = [text for text in _variants(answer) if text.strip()] if mode == "loose" else [answer]
    try:
        followed = [any(check(text) for text in texts) for check in checks]
    except Undecided as error:
        return Verdict(state="undecided", reason=str(error))
    return float(all(followed)) if score == "all_or_nothing" else sum(followed) / len(followed)


def _variants(answer: str) -> list[str]:
    """The answer, and what IFEval's loose mode makes of it."""
    lines = answer.split("\n")
    texts = [answer, *("\n".join(part).strip() for part in (lines[1:], lines[:-1], lines[1:-1]))]
    return texts + [text.replace("*", "") for text in texts]


# ---------------------------------------------------------------------------------------------------------------------
# The instructions of a problem


def _checks(problem: Problem) -> list[Callable[[str], bool]]:
    """One function of the text for each instruction of the problem; ValueError if they cannot be read."""
    names: Any = problem.metadata.get("instruction_id_list")
    arguments: Any = problem.metadata.get("kwargs")
    if not _is_list(names) or not names or not _is_list(arguments) or len(names) != len(arguments):
        raise ValueError(
            "instructions needs metadata['instruction_id_list'] and metadata['kwargs'], two lists of the same length, "
            f"got {names!r} and {arguments!r}"
        )
    return [_check(name, given) for name, given in zip(names, arguments, strict=True)]


def _check(name: str, given: object) -> Callable[[str], bool]:
    """The check of one instruction, its arguments bound."""
    if name not in INSTRUCTIONS:
        raise ValueError(f"unknown instruction {name!r}; known are {', '.join(INSTRUCTIONS)}")
    function = INSTRUCTIONS[name]
    if not isinstance(given, Mapping):
        raise ValueError(f"{name}: its kwargs must be a mapping, got {given!r}")
    wanted = list(inspect.signature(function).parameters.values())[1:]
    present = {str(key): value for key, value in given.items() if value is not None}
    if set(present) != {parameter.name for parameter in wanted}:
        needed = ", ".join(parameter.name for parameter in wanted) or "none"
        raise ValueError(f"{name} takes the kwargs {needed}, got {', '.join(present) or 'none'}")
    values = [_typed(name, parameter, present[parameter.name]) for parameter in wanted]
    return lambda text: function(text, *values)


def _typed(name: str, parameter: inspect.Parameter, value: Any) -> Any:
    """The argument as its function takes it: 3.0 is 3, for columns with gaps come as floats."""
    kind = str(parameter.annotation)
    if kind == "int" and isinstance(value, int | float) and float(value).is_integer() and value >= 0:
        return int(value)
    if kind == "str" and isinstance(value, str) and value.strip():
        if parameter.name.endswith("relation") and value not in ("less than", "at least"):
            raise ValueError(f"{name}: {parameter.name} must be 'less than' or 'at least', got {value!r}")
        if parameter.name == "language" and value not in known_languages():
            raise ValueError(f"{name}: unknown language {value!r}")
        return value
    if kind == "Sequence[str]" and _is_list(value) and value and all(isinstance(item, str) for item in value):
        return value
    raise ValueError(f"{name}: {parameter.name} must be of type {kind}, got {value!r}")


def _is_list(value: object) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str | bytes)


def _holds(number: int, relation: str, limit: int) -> bool:
    return number < limit if relation == "less than" else number >= limit


# ---------------------------------------------------------------------------------------------------------------------
# keywords, language, punctuation, case


def existence(text: str, keywords: Sequence[str]) -> bool:
    """Each keyword occurs, in any case, inside of words too."""
    return all(keyword.lower() in text.lower() for keyword in keywords)


def frequency(text: str, keyword: str, frequency: int, relation: str) -> bool:
    return _holds(text.lower().count(keyword.lower()), relation, frequency)


def forbidden_words(text: str, forbidden_words: Sequence[str]) -> bool:
    """None of the words occurs as a whole word, in any case."""
    return not any(
        re.search(rf"(?<!\w){re.escape(word)}(?!\w)", text, re.IGNORECASE) for word in forbidden_words if word
    )


def letter_frequency(text: str, letter: str, let_frequency: int, let_relation: str) -> bool:
    return _holds(text.lower().count(letter.lower()), let_relation, let_frequency)


def response_language(text: str, language: str) -> bool:
    found = main_language(text, expected=language, sure=LANGUAGE_SURE)
    if not found:
        raise Undecided(f"in which language the answer is cannot be told: {text[:60]!r}")
    return found == language


def no_comma(text: str) -> bool:
    return "," not in text


def english_capital(text: str) -> bool:
    """All letters are capital, and nothing shows that they are not English."""
    return text.isupper() and _may_be_english(text)


def english_lowercase(text: str) -> bool:
    return text.islower() and _may_be_english(text)


def _may_be_english(text: str) -> bool:
    return main_language(text.lower(), sure=LANGUAGE_SURE) in ("en", "")


def capital_word_frequency(text: str, capital_frequency: int, capital_relation: str) -> bool:
    """How many words are in capitals; I and A are, NASA and U.S. and NON-STOP are one each."""
    return _holds(sum(word.isupper() for word in CAPITAL_WORD.findall(text)), capital_relation, capital_frequency)


# ---------------------------------------------------------------------------------------------------------------------
# Lengths


def number_sentences(text: str, num_sentences: int, relation: str) -> bool:
    return _holds(count_sentences(text), relation, num_sentences)


def count_sentences(text: str) -> int:
    """Pieces with a letter or digit that end in . ! or ? before a space or the end of the text, or with the text.

    A period after Dr., an initial, or e.g. and the like does not end one; after the last kind it does before a capital.
    """
    count, start = 0, 0
    text = text.rstrip()
    for match in SENTENCE_END.finditer(text):
        if match.group() == "." and _abbreviates(text, start, match.end()):
            continue
        count += _has_word(text[start : match.end()])
        start = match.end()
    return count + _has_word(text[start:])


def _abbreviates(text: str, start: int, end: int) -> bool:
    """Whether the period just before `end` belongs to an abbreviation and ends no sentence, which began at `start`."""
    before, after = text[max(start, end - 21) : end - 1], text[end : end + 2].strip()
    if not after:
        return False
    return bool(TITLE_END.search(before)) or (bool(ABBREVIATION.search(before)) and not after.isupper())


def _has_word(text: str) -> bool:
    return re.search(r"[^\W_]", text) is not None


def number_words(text: str, num_words: int, relation: str) -> bool:
    r"""Words are runs of letters, digits and underscores, \w+; a run of Chinese is one."""
    return _holds(len(re.findall(r"\w+", text)), relation, num_words)


def number_paragraphs(text: str, num_paragraphs: int) -> bool:
    """Exactly so many paragraphs, divided by ***; an empty one only at the start or the end."""
    paragraphs = [paragraph.strip() for paragraph in text.split("***")]
    return all(paragraphs[1:-1]) and sum(map(bool, paragraphs)) == num_paragraphs


def nth_paragraph_first_word(text: str, num_paragraphs: int, nth_paragraph: int, first_word: str) -> bool:
    """Exactly so many paragraphs, divided by blank lines, and the nth begins with the word."""
    paragraphs = text.split("\n\n")
    filled = sum(bool(paragraph.strip()) for paragraph in paragraphs)
    if filled != num_paragraphs or not 1 <= nth_paragraph <= filled or not paragraphs[nth_paragraph - 1].strip():
        return False
    word = paragraphs[nth_paragraph - 1].split()[0].lstrip("'").lstrip('"')
    return re.split("[.,?!'\"]", word, maxsplit=1)[0].lower() == first_word.lower()


# ---------------------------------------------------------------------------------------------------------------------
# Content and format


def number_placeholders(text: str, num_placeholders: int) -> bool:
    """At least so many [placeholders], each within a line."""
    count = 0
    for line in text.split("\n"):
        end = -1
        while (start := line.find("[", end + 1)) >= 0 and (end := line.find("]", start)) >= 0:
            count += 1
    return count >= num_placeholders


def postscript(text: str, postscript_marker: str) -> bool:
    """The marker occurs in any case; P.S. and P.P.S also with a space inside."""
    pattern = {"P.S.": r"p\.\s?s\.", "P.P.S": r"p\.\s?p\.\s?s"}.get(postscript_marker)
    return re.search(pattern or re.escape(postscript_marker.lower()), text.lower()) is not None


def number_bullet_lists(text: str, num_bullets: int) -> bool:
    """Exactly so many lines begin with * (but not **) or -."""
    lines = [line.lstrip() for line in text.split("\n")]
    bullets = (line[:1] == "-" or (line[:1] == "*" and line[1:2] not in ("*", "")) for line in lines)
    return sum(bullets) == num_bullets


def constrained_response(text: str) -> bool:
    return any(option in text for option in OPTIONS)


def number_highlighted_sections(text: str, num_highlights: int) -> bool:
    """At least so many *highlights* or **highlights**, none empty."""
    single = [found.strip("*").strip() for found in re.findall(r"\*[^\n*]*\*", text)]
    double = [found[2:-2].strip() for found in re.findall(r"\*\*[^\n*]*\*\*", text)]
    return sum(map(bool, single + double)) >= num_highlights


def multiple_sections(text: str, section_spliter: str, num_sections: int) -> bool:
    """At least so many "Section 1" with whatever word divides the sections; its case counts."""
    return len(re.findall(rf"{re.escape(section_spliter)}\s?\d+", text)) >= num_sections


def json_format(text: str) -> bool:
    """The whole text is JSON, as it is or in a fence."""
    text = text.strip()
    for fence in FENCES:
        text = text.removeprefix(fence)
    try:
        json.loads(text.removesuffix("```").strip())
    except (ValueError, RecursionError):
        return False
    return True


def title(text: str) -> bool:
    """Some line has a non-empty <<title>>."""
    for line in text.split("\n"):
        start, end = line.find("<<"), line.rfind(">>")
        if 0 <= start < end - 2 and line[start:end].lstrip("<").rstrip(">").strip():
            return True
    return False


def two_responses(text: str) -> bool:
    """Two different answers, divided by ******."""
    answers = [answer.strip() for answer in text.split("******")]
    filled = [answer for answer in answers if answer]
    return all(answers[1:-1]) and len(filled) == 2 and filled[0] != filled[1]


def repeat_prompt(text: str, prompt_to_repeat: str) -> bool:
    """The answer begins with the request, word for word, in any case."""
    return text.strip().lower().startswith(prompt_to_repeat.strip().lower())


def end_checker(text: str, end_phrase: str) -> bool:
    """The answer ends with the phrase, in any case; quotation marks after it do not matter."""
    return text.strip().strip('"').lower().endswith(end_phrase.strip().lower())


def quotation(text: str) -> bool:
    """The whole answer is in double quotation marks."""
    text = text.strip()
    return len(text) > 1 and text[0] == text[-1] == '"'


INSTRUCTIONS: dict[str, Callable[..., bool]] = {
    "keywords:existence": existence,
    "keywords:frequency": frequency,
    "keywords:forbidden_words": forbidden_words,
    "keywords:letter_frequency": letter_frequency,
    "language:response_language": response_language,
    "length_constraints:number_sentences": number_sentences,
    "length_constraints:number_paragraphs": number_paragraphs,
    "length_constraints:number_words": number_words,
    "length_constraints:nth_paragraph_first_word": nth_paragraph_first_word,
    "detectable_content:number_placeholders": number_placeholders,
    "detectable_content:postscript": postscript,
    "detectable_format:number_bullet_lists": number_bullet_lists,
    "detectable_format:constrained_response": constrained_response,
    "detectable_format:number_highlighted_sections": number_highlighted_sections,
    "detectable_format:multiple_sections": multiple_sections,
    "detectable_format:json_format": json_format,
    "detectable_format:title": title,
    "combination:two_responses": two_responses,
    "combination:repeat_prompt": repeat_prompt,
    "startend:end_checker": end_checker,
    "startend:quotation": quotation,
    "change_case:capital_word_frequency": capital_word_frequency,
    "change_case:english_capital": english_capital,
    "change_case:english_lowercase": english_lowercase,
    "punctuation:no_comma": no_comma,
}
