"""Every kind of IFEval instruction: what follows it, what does not, and problems that cannot be read."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
from hang_guard import hang_guard

from rewards.instructions import INSTRUCTIONS, count_sentences, instructions

SENTENCES = json.loads((Path(__file__).parent / "languages.json").read_text(encoding="utf-8"))
AT_LEAST, LESS = {"relation": "at least"}, {"relation": "less than"}

# name, arguments, texts that follow it, texts that do not
CASES = [
    ("keywords:existence", {"keywords": ["tea", "Pot"]}, ["A TEAPOT.", "pot of tea"], ["tea", "pot", "te a pot"]),
    ("keywords:existence", {"keywords": ["a+b"]}, ["so a+b is"], ["aab", "ab"]),  # literally, no regular expression
    ("keywords:frequency", {"keyword": "tea", "frequency": 2, **AT_LEAST}, ["Tea, tea", "teatea"], ["tea", "none"]),
    ("keywords:frequency", {"keyword": "tea", "frequency": 2, **LESS}, ["tea", "none"], ["tea tea"]),
    ("keywords:forbidden_words", {"forbidden_words": ["tea", "c++"]}, ["teapot", "c+"], ["Tea!", "in C++ too"]),
    ("keywords:letter_frequency", {"letter": "E", "let_frequency": 2, "let_relation": "at least"}, ["eE"], ["e", "x"]),
    ("keywords:letter_frequency", {"letter": "!", "let_frequency": 2, "let_relation": "less than"}, ["!"], ["!!"]),
    ("language:response_language", {"language": "fr"}, SENTENCES["fr"], SENTENCES["en"] + SENTENCES["ja"]),
    ("language:response_language", {"language": "ja"}, SENTENCES["ja"], SENTENCES["zh"] + SENTENCES["en"]),
    ("length_constraints:number_sentences", {"num_sentences": 2, **AT_LEAST}, ["One. Two.", "One! Two"], ["One. ..."]),
    ("length_constraints:number_sentences", {"num_sentences": 2, **LESS}, ["One", "Dr. Who came."], ["One? Two."]),
    ("length_constraints:number_paragraphs", {"num_paragraphs": 2}, ["a\n***\nb", "***a***b***"], ["a", "a***\n***b"]),
    ("length_constraints:number_words", {"num_words": 3, **AT_LEAST}, ["one two three", "1-2-3"], ["one two", "- - -"]),
    ("length_constraints:number_words", {"num_words": 3, **LESS}, ["one, two"], ["it's one"]),  # it, s, one
    (
        "length_constraints:nth_paragraph_first_word",
        {"num_paragraphs": 2, "nth_paragraph": 2, "first_word": "Then"},
        ["One.\n\nthen two", 'One.\n\n"Then," two', "One.\n\nThen's\n\n"],
        ["Then\n\none", "One.\n\nThen.\n\nThree.", "One.\nThen", "One.\n\nthenceforth", "One.\n\n\n\nThen"],
    ),
    ("detectable_content:number_placeholders", {"num_placeholders": 2}, ["[a] [b c]", "[[a][]"], ["[a]", "[a\n] [b]"]),
    ("detectable_content:postscript", {"postscript_marker": "P.S."}, ["p.s. x", "Bye\nP. S. x"], ["PS x", "p.p.s x"]),
    ("detectable_content:postscript", {"postscript_marker": "P.P.S"}, ["P.P.S x", "p. p. s"], ["P.S. x"]),
    ("detectable_content:postscript", {"postscript_marker": "N.B."}, ["so n.b. x"], ["nxbx"]),
    ("detectable_format:number_bullet_lists", {"num_bullets": 2}, ["* a\n  - b", "-a\n\n*b"], ["* a", "- a\n- b\n- c"]),
    ("detectable_format:number_bullet_lists", {"num_bullets": 1}, ["**bold**\n* a"], ["**bold**", "a * b"]),
    (
        "detectable_format:constrained_response",
        {},
        ["So. My answer is no.", "My answer is maybe."],
        ["my answer is no."],
    ),
    (
        "detectable_format:number_highlighted_sections",
        {"num_highlights": 2},
        ["*a* and *b c*", "**a** **b**"],
        ["*a*", "**a**", "* * *"],
    ),
    (
        "detectable_format:multiple_sections",
        {"section_spliter": "SECTION", "num_sections": 2},
        ["SECTION 1\na\nSECTION 2\nb", "SECTION1 SECTION 22"],
        ["SECTION 1", "Section 1 Section 2", "SECTION one SECTION two"],
    ),
    (
        "detectable_format:json_format",
        {},
        ['{"a": [1]}', '```json\n{"a": 1}\n```', "3"],
        ["{a: 1}", "Here: {}", "[" * 9999],
    ),
    ("detectable_format:title", {}, ["<<A title>>\ntext", "so <<<x>>>"], ["<title>", "<<>>", "<< >>", "<<a\nb>>"]),
    ("combination:two_responses", {}, ["a******b", "******a\n******\nb******"], ["a", "a******a", "a******b******c"]),
    ("combination:two_responses", {}, [], ["a****** ******b", "a***b", "******"]),
    ("combination:repeat_prompt", {"prompt_to_repeat": "Say hi."}, [" say hi. Hi"], ["Hi. Say hi.", "Say: hi."]),
    ("startend:end_checker", {"end_phrase": "The end."}, ["So. the END.", 'x "the end."'], ["The end", "The end. Bye"]),
    ("startend:quotation", {}, ['"a"', ' "a" "b" '], ['"a', "a", '"', "'a'"]),
    (
        "change_case:capital_word_frequency",
        {"capital_frequency": 2, "capital_relation": "at least"},
        ["I am AT home", "NON-STOP and U.S. news"],
        ["NON-STOP", "I am", "none", "1 2"],
    ),
    ("change_case:capital_word_frequency", {"capital_frequency": 1, "capital_relation": "less than"}, ["Aa"], ["AA"]),
    ("change_case:english_capital", {}, ["THE SUM OF THE TWO IS 4.", "OK"], ["The sum", "DIE SUMME IST NICHT VIER."]),
    (
        "change_case:english_lowercase",
        {},
        ["the sum of the two is 4."],
        ["the Sum", "la somme des deux est quatre.", "4"],
    ),
    ("punctuation:no_comma", {}, ["a; b", "a\u3001b"], ["a, b", "1,000"]),
]


@pytest.fixture
def reward(problem, make_completion, make_prompt):
    def score(text, names, kwargs, prefix="", **options):
        asked = dataclasses.replace(problem, metadata={"instruction_id_list": names, "kwargs": kwargs})
        return instructions(asked, make_completion(text), prompt=make_prompt(prefix, problem=asked), **options)

    return score


def test_every_kind_has_a_case():
    assert {name for name, *_ in CASES} == set(INSTRUCTIONS)
    assert len(INSTRUCTIONS) == 25


@pytest.mark.parametrize(("name", "kwargs", "good", "bad"), CASES)
def test_an_instruction(name, kwargs, good, bad, reward):
    all_columns = {"keywords": None, "num_words": None} | kwargs  # as the hub's table has them
    for text in good:
        assert reward(text, [name], [all_columns]) == 1, text
    for text in bad:
        given = reward(text, [name], [all_columns])
        assert given == 0, text
        assert getattr(given, "state", "wrong") == "wrong", text


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("One. Two! Three?", 3),
        ("no end", 1),
        ("What?! Yes...", 2),
        ("Mr. J. Smith met Dr. Who.", 1),
        ("We use e.g. apples, i.e. fruit, etc. and so on.", 1),
        ("Apples, pears etc. They are fruit.", 2),
        ("It is 3.14. That is all.", 2),
        ("He lives in the U.S. now.", 1),
        ("So do I. Then we go.", 2),
        ('"One." (Two.) *Three.*', 3),
        ("\u4e00\u3002\u4e8c\uff01\u4e09", 3),
        ("hello. i am here. yes", 3),
        ("One.Two", 1),
        ("... !!!", 0),
        ("", 0),
    ],
)
def test_sentences_are_counted(text, count):
    assert count_sentences(text) == count


TWO = (["punctuation:no_comma", "startend:quotation"], [{}, {}])


@pytest.mark.parametrize(
    ("text", "options", "value"),
    [
        ('"a b"', {}, 1),
        ("a b", {}, 0.5),
        ("a, b", {}, 0),
        ('"a b"', {"score": "all_or_nothing"}, 1),
        ("a b", {"score": "all_or_nothing"}, 0),
        ('Sure:\n"a b"', {}, 0.5),
        ('Sure:\n"a b"', {"mode": "loose"}, 1),  # without its first line
        ('Sure, yes:\n"a b"\nBye, bye', {"mode": "loose"}, 1),  # without first and last
        ('**"a b"**', {"mode": "loose"}, 1),  # without asterisks
        ("a, b", {"mode": "loose"}, 0),
        ("a, b\n", {"mode": "loose"}, 0),  # an empty rest follows nothing
        ('<think>a, b</think>"c"', {}, 1),  # only the answer is judged
        ('<think>"c"</think>a, b', {}, 0),
    ],
)
def test_several_instructions(text, options, value, reward):
    assert reward(text, *TWO, **options) == value


@pytest.mark.parametrize(("prefix", "text"), [("", ""), ("", " \n"), ("", "<think>a</think> "), ("<think>", '"a b"')])
def test_no_answer(prefix, text, reward):
    assert reward(text, *TWO, prefix=prefix).state == "no_answer"


def test_a_language_that_cannot_be_told_is_undecided(reward):
    given = reward("42", ["language:response_language"], [{"language": "fr"}])
    assert given.state == "undecided"
    assert "'42'" in given.reason


@pytest.mark.parametrize(
    ("names", "kwargs", "reason"),
    [
        (None, None, "metadata['instruction_id_list']"),
        ([], [], "two lists"),
        (["punctuation:no_comma"], [], "same length"),
        ("punctuation:no_comma", [{}], "two lists"),
        (["punctuation:no_commas"], [{}], "unknown instruction 'punctuation:no_commas'"),
        (["punctuation:no_comma"], ["{}"], "must be a mapping"),
        (["punctuation:no_comma"], [{"num_words": 3}], "takes the kwargs none, got num_words"),
        (
            ["length_constraints:number_words"],
            [{"num_words": 3}],
            "takes the kwargs num_words, relation, got num_words",
        ),
        (["length_constraints:number_words"], [{"num_words": None, "relation": "at least"}], "got relation"),
        (
            ["length_constraints:number_words"],
            [{"num_words": "3", "relation": "at least"}],
            "num_words must be of type int",
        ),
        (["length_constraints:number_words"], [{"num_words": 2.5, "relation": "at least"}], "got 2.5"),
        (["length_constraints:number_words"], [{"num_words": float("inf"), "relation": "at least"}], "got inf"),
        (["length_constraints:number_words"], [{"num_words": 3, "relation": "at most"}], "'less than' or 'at least'"),
        (["keywords:existence"], [{"keywords": "tea"}], "Sequence[str]"),
        (["keywords:existence"], [{"keywords": []}], "Sequence[str]"),
        (["startend:end_checker"], [{"end_phrase": " "}], "type str"),
        (["language:response_language"], [{"language": "French"}], "unknown language 'French'"),
    ],
)
def test_a_problem_that_cannot_be_read(names, kwargs, reason, reward):
    given = reward("a", names, kwargs)
    assert given.state == "bad_gold"
    assert reason in given.reason


def test_whole_numbers_that_a_table_made_floats_are_whole(reward):
    assert reward("a b c", ["length_constraints:number_words"], [{"num_words": 3.0, "relation": "at least"}]) == 1


@pytest.mark.parametrize(
    "unit", ["a ", "\n", "[", "<<", ">>", "*", " ", "- ", ".", ". ", '"', "P.", "Dr. ", "A", "1", "{"]
)
def test_all_kinds_read_a_megabyte_to_its_end(unit, reward):
    kinds = {name: kwargs for name, kwargs, *_ in CASES}
    reward("x", list(kinds), list(kinds.values()))
    with hang_guard():
        reward(unit * (1_000_000 // len(unit)), list(kinds), list(kinds.values()))
