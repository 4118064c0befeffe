"""The language of the thinking: single languages, mixtures whose shares are known, and what is no language."""

from __future__ import annotations

import dataclasses
import itertools
import json
import subprocess
import sys
from pathlib import Path

import pytest
from hang_guard import hang_guard

from data.problem import ask
from rewards.language_consistency import language_consistency
from rewards.languages import CHARS_PER_WORD, SCRIPTS, main_language, words_by_language
from rewards.thinking import split_thinking

ROOT = Path(__file__).parents[1]
SENTENCES = json.loads((Path(__file__).parent / "languages.json").read_text(encoding="utf-8"))
REQUIRED = ("en", "zh", "fr", "de", "es", "ja", "ru")
LATIN = ("en", "fr", "de", "es", "it", "pt", "nl")

HAN = "\u5047\u8bbe"  # Chinese: suppose
TOTAL = "\u6211\u4eec\u8ba1\u7b97\u603b\u6570"  # Chinese: we compute the total; three words by our count
KANA = "\u3053\u306e\u554f\u984c"  # Japanese: this problem; two words by our count


@pytest.fixture
def reward(problem, make_completion, make_prompt):
    def score(text, language="auto", question="How many apples does she have left?", prefix="<think>", **options):
        asked = dataclasses.replace(problem, messages=ask(question))
        prompt = make_prompt(prefix, problem=asked)
        return language_consistency(asked, make_completion(text), prompt=prompt, language=language, **options)

    return score


def test_all_required_languages_have_sentences():
    assert all(len(SENTENCES[language]) >= 12 for language in REQUIRED)


@pytest.mark.parametrize("language", SENTENCES)
def test_a_text_in_one_language_is_wholly_in_it_and_in_no_other(language, reward):
    text = " ".join(SENTENCES[language]) + "</think>4"
    assert reward(text, language) == 1
    for other in set(SENTENCES) - {language}:
        assert reward(text, other) == 0


@pytest.mark.parametrize("language", SENTENCES)
def test_the_language_of_a_question_is_recognised(language):
    wrong = [line for line in SENTENCES[language] if main_language(line, sure=0.5) != language]
    assert not wrong


@pytest.mark.parametrize("pair", list(itertools.permutations(REQUIRED, 2)), ids="-".join)
def test_a_mixture_by_sentences_is_measured(pair, reward):
    ours, theirs = (SENTENCES[language] for language in pair)
    mixed = [*ours[:4], *theirs[4:10], *ours[10:12]]
    counts = [words_by_language(" ".join(lines)) for lines in (ours[:4] + ours[10:12], theirs[4:10])]
    share = sum(counts[0].values()) / sum(sum(count.values()) for count in counts)
    assert reward(" ".join(mixed), pair[0]) == pytest.approx(share, abs=0.08)  # short ones may count for none
    assert reward("\n".join(mixed), pair[0]) == pytest.approx(share, abs=0.08)


@pytest.mark.parametrize(
    ("text", "counts"),
    [
        ("We compute the total sum.", {"en": 5}),
        (f"We compute {TOTAL} and then the sum.", {"en": 6, "zh": 3}),  # two scripts in one sentence
        (f"{KANA}\u306f {HAN}\u3002", {"ja": 3.5}),  # Han beside kana is Japanese
        ("x = 2, y = 3: 2 + 2 = 4", {}),
        (r"\[ \frac{area}{total} = side \] $count + sum$ $$long$$ \(and\)", {}),
        ("```python\nfor apple in apples:\n    print(apple)\n``` `while true`", {}),
        ("https://example.com/how/many/apples www.some-where.org/now", {}),
        ("<answer></answer>", {}),
        ("It costs $5 and the other one costs $6 in all.", {"en": 9}),  # money, not maths
        ("We pay $5 for one apple,$6 for two apples.", {"en": 8}),
        ("So the answer is $x$ and we are done", {"en": 8}),
        ("", {}),
    ],
)
def test_words_are_counted(text, counts):
    assert words_by_language(text) == counts


def test_a_short_word_alone_counts_for_no_language_and_many_together_do():
    assert words_by_language("Compute.") == {"": 1}
    assert words_by_language("The total.\nThe sum.\nThe rest.\nWith them.\nWhich one.") == {"en": 10}


@pytest.mark.parametrize(
    ("text", "options", "state"),
    [
        ("", {}, "no_answer"),
        ("  \n</think>The answer is four apples.", {}, "no_answer"),
        ("The answer is four apples.", {"prefix": ""}, "no_answer"),  # no thinking at all
        ("2 + 2 = 4</think>4", {}, "undecided"),
        ("We add the two numbers.</think>4", {"question": "2 + 2 = ?"}, "undecided"),
        ("Compute</think>4", {}, "undecided"),
        ("We add the two numbers.</think>4", {}, "ok"),
        ("We add the two numbers.</think>4", {"language": "fr"}, "wrong"),
        ("We add the two numbers.", {}, "ok"),  # cut off while thinking
    ],
)
def test_the_state_of_a_verdict(text, options, state, reward):
    given = reward(text, **options)
    assert getattr(given, "state", "ok" if given else "wrong") == state


def test_the_question_decides_unless_a_language_is_asked_for(reward):
    french, english = " ".join(SENTENCES["fr"]), " ".join(SENTENCES["en"])
    asked = "Combien de pommes lui reste-t-il apr\u00e8s la vente ?"
    assert reward(french, question=asked) == 1
    assert reward(english, question=asked) == 0
    assert reward(english, "en", question=asked) == 1


def test_the_part_that_is_judged_can_be_chosen(reward):
    text = " ".join(SENTENCES["en"]) + "</think>" + " ".join(SENTENCES["fr"])
    assert reward(text, part="thinking") == 1
    assert reward(text, part="answer") == 0
    assert 0.4 < reward(text, part="both") < 0.6


def test_a_language_outside_the_usual_ones_can_be_asked_for(reward):
    catalan = "Primer calculem el preu total de les pomes. Per tant la resposta \u00e9s dotze."
    assert reward(catalan, "ca") == 1
    assert reward(" ".join(SENTENCES["es"]), "ca") < 0.2


def test_a_language_that_nobody_knows_is_refused(reward):
    with pytest.raises(ValueError, match=r"language must be auto or one of .*en.* got 'english'"):
        reward("We add.", "english")


@pytest.mark.parametrize(
    ("prefix", "text", "parts"),
    [
        ("", "<think>a</think>b", ("a", "b")),
        ("<think>", "a</think>b", ("a", "b")),
        ("", "a</think>b", ("a", "b")),
        ("<think>", "a", ("a", "")),
        ("", "so <think>a", ("a", "")),
        ("", "a", ("", "a")),
        ("<think>", "a</think>b</think>c", ("a b", "c")),
        ("", "<thinking>a</thinking>b<think>c", ("a b c", "")),
        ("", "", ("", "")),
    ],
)
def test_thinking_and_answer_are_split(prefix, text, parts, make_completion, make_prompt):
    assert split_thinking(make_prompt(prefix), make_completion(text)) == parts


def test_a_sentence_without_end_that_changes_language_is_not_taken_for_one(reward):
    text = " ".join([" ".join(SENTENCES[language]).replace(".", "").replace(",", "") for language in ("en", "de")])
    assert 0.4 < reward(text, "en") < 0.65


@pytest.mark.parametrize("unit", ["a ", "\n", "$", "`", r"\[", r"\(", "```", "$$", r"\begin{", "http://", "Ok. ", HAN])
def test_a_megabyte_is_read_to_its_end(unit, reward):
    reward("We add the two numbers.")  # loads the library
    with hang_guard():
        reward(unit * (1_000_000 // len(unit)), "en")


def test_the_library_is_loaded_at_first_use_only():
    program = "import rewards.language_consistency, sys; sys.exit(bool({'py3langid', 'numpy'} & set(sys.modules)))"
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True)


def test_scripts_without_spaces_are_counted_by_characters():
    assert set(CHARS_PER_WORD) <= set(SCRIPTS)
    assert words_by_language(TOTAL) == {"zh": 3}
