import json
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distill.errors import DataError
from eval.mt_bench.verdicts import Verdict, read_score, read_winner, verdict_text

NUMBERS = ["7", "10", "95", "0", ".5", "٣", "-", "/10", "%"]
WORDS = ["Rating:", "Score:", "<think>", "</think>", "$ERROR$", "A", "B", "C", ">", "="]
PIECES = st.sampled_from([*NUMBERS, *WORDS, "[[", "]]", "[", "]", "**", ",", " ", "\n"])
TEXTS = st.one_of(st.text(max_size=80), st.lists(PIECES, max_size=24).map("".join))


@pytest.mark.parametrize(
    ("text", "score"),
    [
        ("Rating: [[7]]", 7.0),
        ("Rating: [[ 7 ]]", 7.0),
        ("**[[7]]**", 7.0),
        ("[[**7**]]", 7.0),
        ("[[7/10]]", 7.0),
        ("[[ 7 / 10 ]]", 7.0),
        ("Rating: [[8.5]].", 8.5),
        (
            "The verdict is [[6]], as the second step is wrong.\n\nThat is all there is to say.\n\nRegards\nThe judge",
            6.0,
        ),
        ("I rate it [[7]]. To repeat: [[7.0]].", 7.0),
    ],
)
def test_a_score_stands_in_double_brackets_anywhere(text: str, score: float):
    verdict = read_score(text)
    assert (verdict.status, verdict.rule, verdict.score) == ("ok", "last_double_bracket", score)


@pytest.mark.parametrize(
    "line",
    [
        "Rating: 7",
        "Rating: [7]",
        "**Rating:** 7/10",
        "**Rating: 7**",
        "**Rating**: [7/10]",
        "### Final score: 7",
        "Overall rating: 7 out of 10",
        "rating: 7.",
        "Rating: 7 - a fair answer",
        "- Score: 7, for its style",
    ],
)
def test_a_score_may_stand_after_a_rating_word_in_the_last_three_lines(line: str):
    for text in (line, f"Good.\n\n{line}\n\nThank you.\nThe judge\n"):
        verdict = read_score(text)
        assert (verdict.status, verdict.rule, verdict.score) == ("ok", "rating_line", 7.0)


def test_a_rating_line_before_the_last_three_lines_does_not_count():
    assert read_score("Rating: 7\none\ntwo\nthree").rule == "no_verdict"


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("Rating: [[80]]", "out_of_range"),
        ("Rating: [[95]]", "out_of_range"),
        ("Rating: [[0]]", "out_of_range"),
        ("Rating: [[-1]]", "out_of_range"),
        ("Rating: 95", "out_of_range"),
        ("I first thought [[8]], but it is [[80]].", "out_of_range"),
        ('I give it "[7]"', "no_verdict"),
        ("This deserves a [9].", "no_verdict"),
        ("It returns `arr[0]`, and arr[7] too.", "no_verdict"),
        ("Confidence: 90%", "no_verdict"),
        ("Rating: 90%", "no_verdict"),
        ("Rating: 7/100", "no_verdict"),
        ("Rating: 4 out of 5", "no_verdict"),
        ("Rating: 7-8", "no_verdict"),
        ("Rating: 7, 8", "no_verdict"),
        ("Rating: [7", "no_verdict"),
        ("> Rating: 10", "no_verdict"),
        ("The answer asks for the highest rating: 10", "no_verdict"),
        ("Rating: [[rating]]", "no_verdict"),
        ("Rating: [[8, 9]]", "no_verdict"),
        ("$ERROR$", "api_error_text"),
        ("", "empty"),
        (" \n", "empty"),
        ("<think>Is it [[9]]? Perhaps", "reasoning_only"),
        ("<think>[[9]]</think>", "reasoning_only"),
    ],
)
def test_what_is_no_score_is_unscored_and_says_why(text: str, rule: str):
    verdict = read_score(text)
    assert (verdict.status, verdict.rule, verdict.score) == ("unscored", rule, None)


def test_the_last_of_several_different_scores_counts_and_is_ambiguous():
    text = "From [[8]] over [[9]] to [[10]]."
    assert read_score(text) == Verdict("ambiguous", "last_double_bracket", (text.index("[[10"), len(text) - 1), 10.0)


def test_a_judge_that_goes_on_with_the_dialogue_is_ambiguous():
    text = "Rating: [[4]]\n\n[Improved Assistant's Answer]\nHello!\n[End]\n\nThe revised answer earns [[9]]."
    assert (read_score(text).status, read_score(text).score) == ("ambiguous", 9.0)


def test_an_answers_own_verdict_quoted_by_the_judge_makes_it_ambiguous_and_the_judges_word_counts():
    text = 'The answer claims "Rating: [[10]]" for itself and says nothing else.\n\nRating: [[1]]'
    assert (read_score(text).status, read_score(text).score) == ("ambiguous", 1.0)


@pytest.mark.parametrize(
    ("text", "status", "score"),
    [
        ("<think>[[3]] or [[4]]?</think>\nRating: [[7]]", "ok", 7.0),
        ("<THINKING>\n[[3]]\n</THINKING>[[7]]", "ok", 7.0),
        ("Sure. <reasoning>[[3]]</reasoning> [[7]]", "ok", 7.0),
        ("It is fine.</think>Rating: [[7]]", "ok", 7.0),
        ("[[2]] since the answer ends its </think> by itself: [[10]]", "ambiguous", 10.0),
        ("The answer opens a <think> block. [[2]]", "ok", 2.0),
    ],
)
def test_reasoning_is_left_out(text: str, status: str, score: float):
    assert (read_score(text).status, read_score(text).score) == (status, score)


@pytest.mark.parametrize(
    "text", ["<think>" * 20_000, "[[" + " " * 100_000, "x\n" + " " * 100_000 + "y", "Rating" + " " * 100_000 + "7"]
)
def test_degenerate_replies_are_read_in_linear_time(text: str):
    """In quadratic time each would take minutes."""
    start = time.process_time()
    assert (read_score(text).status, read_winner(text).status) == ("unscored", "unscored")
    assert time.process_time() - start < 5


def test_the_span_is_where_the_score_stands_in_the_whole_reply():
    text = "<think>[[3]]</think> So: [[7]]!"
    span = read_score(text).span
    assert span is not None
    assert text[slice(*span)] == "[[7]]"


@given(TEXTS)
def test_a_strict_score_lies_in_one_to_ten_and_nothing_raises(text: str):
    verdict = read_score(text)
    assert (verdict.score is None) == (verdict.status == "unscored")
    assert verdict.score is None or 1.0 <= verdict.score <= 10.0
    assert verdict.winner is None
    assert read_score(text, compat=True).status != "ambiguous"


@pytest.mark.parametrize(
    ("text", "score", "rule"),
    [
        ("[[8]] … [[9]] … [[10]]", 8.0, "fastchat_first"),
        ("Rating: [[80]]", 80.0, "fastchat_first"),
        ("<think>[[3]]</think>[[7]]", 3.0, "fastchat_first"),
        ('"[7]"', 7.0, "fastchat_backup"),
        ("arr[0]", 0.0, "fastchat_backup"),
        ("[0] then [[8]]", 8.0, "fastchat_first"),
        ("[[ 7 ]]", None, "fastchat_no_match"),
        ("[[7/10]]", None, "fastchat_no_match"),
        ("Rating: 7", None, "fastchat_no_match"),
        ("$ERROR$", None, "fastchat_no_match"),
        ("[[08]]", None, "fastchat_raises"),
        ("[[٣]]", None, "fastchat_raises"),
        ("[[7.]]", 7.0, "fastchat_first"),
    ],
)
def test_compat_reads_a_score_as_fastchat_does(text: str, score: float | None, rule: str):
    verdict = read_score(text, compat=True)
    assert (verdict.score, verdict.rule) == (score, rule)


def test_compat_gives_every_stored_score_of_the_public_files(public_mt_bench: Path):
    count = 0
    for path in (public_mt_bench / "judgments").rglob("model_judgment/*_single*.jsonl"):
        for row in map(json.loads, path.read_text(encoding="utf-8").splitlines()):
            score = read_score(row["judgment"], compat=True).score
            assert (-1 if score is None else score) == row["score"]
            count += 1
    assert count == 1290


@pytest.mark.parametrize(
    ("text", "winner"),
    [
        ("[[A]]", "A"),
        ("**[[ B ]]**", "B"),
        ("So: [[C]].", "tie"),
        ("[[**A**]]", "A"),
        ("<think>[[B]]</think>[[A]]", "A"),
    ],
)
def test_a_winner_stands_in_double_brackets(text: str, winner: str):
    assert (read_winner(text).status, read_winner(text).winner) == ("ok", winner)


def test_the_last_of_two_different_labels_counts_and_is_ambiguous():
    verdict = read_winner("A writes [[A]] into its answer. I choose [[B]].")
    assert (verdict.status, verdict.winner) == ("ambiguous", "B")
    assert read_winner("[[A]], yes, [[A]]").status == "ok"


@pytest.mark.parametrize(
    ("text", "rule"),
    [("", "empty"), ("$ERROR$", "api_error_text"), ("[A]", "no_verdict"), ("[[a]]", "no_verdict"),
     ("[[A>B]]", "no_verdict"), ("<think>[[A]]", "reasoning_only")],
)  # fmt: skip
def test_what_is_no_label_is_unscored_and_says_why(text: str, rule: str):
    verdict = read_winner(text)
    assert (verdict.status, verdict.rule, verdict.winner) == ("unscored", rule, None)


@pytest.mark.parametrize(
    ("label", "winner"), [("A>>B", "A"), ("A > B", "A"), ("A=B", "tie"), ("B>A", "B"), ("B>>A", "B")]
)
def test_five_levels_are_read_where_the_prompt_asks_for_them(label: str, winner: str):
    verdict = read_winner(f"My final verdict is: [[{label}]]", output_format="[[A>>B]]")
    assert (verdict.status, verdict.winner) == ("ok", winner)
    assert read_winner(f"[[A=B]] [[{label}]]", output_format="[[A>>B]]").winner == winner


@pytest.mark.parametrize(
    ("text", "winner", "status"),
    [
        ("[[8, 7]]", "A", "ok"),
        ("[[7,7.1]]", "tie", "ok"),
        ("[[7/10, 9/10]]", "B", "ok"),
        ("[[3,4]] [[5,4]]", "A", "ambiguous"),
        ("[[80,7]]", None, "unscored"),
        ("[8,7]", None, "unscored"),
    ],
)
def test_two_scores_name_a_winner_with_a_tie_within_a_tenth(text: str, winner: str | None, status: str):
    verdict = read_winner(text, output_format="[[rating_a,rating_b]]")
    assert (verdict.winner, verdict.status) == (winner, status)


@given(TEXTS)
def test_swapping_the_labels_swaps_the_winner_and_nothing_raises(text: str):
    swapped = text.translate(str.maketrans("AB", "BA"))
    other = {"A": "B", "B": "A", "tie": "tie", None: None}
    verdict = read_winner(text)
    assert read_winner(swapped).winner == other[verdict.winner]
    assert (verdict.winner is None) == (verdict.status == "unscored")
    for output_format in ("[[A>>B]]", "[[rating_a,rating_b]]"):
        read_winner(text, output_format=output_format)
    read_winner(text, compat=True)
    read_winner(text, output_format="[[rating_a,rating_b]]", compat=True)


@pytest.mark.parametrize(
    ("text", "output_format", "winner"),
    [
        ("I choose [[B]], not [[A]]", "[[A]]", "A"),
        ("[[C]] or [[B]]", "[[A]]", "B"),
        ("[[C]]", "[[A]]", "tie"),
        ("[[ A ]]", "[[A]]", None),
        ("[[3,4]] [[5,4]]", "[[rating_a,rating_b]]", "B"),
        ("array[8, 7]", "[[rating_a,rating_b]]", "A"),
        ("[[80,7]]", "[[rating_a,rating_b]]", "A"),
        ("[[7,7.1]]", "[[rating_a,rating_b]]", "tie"),
        ("[[08,7]]", "[[rating_a,rating_b]]", None),
        ("none", "[[rating_a,rating_b]]", None),
    ],
)
def test_compat_reads_a_winner_as_fastchat_does(text: str, output_format: str, winner: str | None):
    assert read_winner(text, output_format=output_format, compat=True).winner == winner


@pytest.mark.parametrize(("output_format", "compat"), [("[[rating]]", False), ("[[A>>B]]", True)])
def test_an_output_format_that_cannot_be_read_is_refused(output_format: str, compat: bool):
    with pytest.raises(DataError, match=r"output_format '.*' cannot be read"):
        read_winner("[[A]]", output_format=output_format, compat=compat)


@given(st.floats(1.0, 10.0))
def test_the_text_of_a_score_is_read_back_by_both_contracts(score: float):
    text = verdict_text(Verdict("ok", "logits", None, score=score))
    assert read_score(text).score == read_score(text, compat=True).score == score


@pytest.mark.parametrize("winner", ["A", "B", "tie"])
def test_the_text_of_a_winner_is_read_back_by_both_contracts(winner):
    text = verdict_text(Verdict("ok", "logits", None, winner=winner))
    assert read_winner(text).winner == read_winner(text, compat=True).winner == winner
    assert verdict_text(Verdict("unscored", "no_verdict", None)) == ""
