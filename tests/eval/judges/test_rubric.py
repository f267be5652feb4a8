import dataclasses
import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distill.errors import DataError, RecipeError
from eval.judges.base import JudgeReply
from eval.judges.rubric import Rubric, RubricJudge, read_result, read_rubrics, rubric_prompts
from eval.mt_bench import read_single
from eval.mt_bench.judging import judge_matches
from eval.mt_bench.matches import single_matches
from eval.mt_bench.strict import key_verdicts
from tests.judge_cases import ScriptedJudge, judging, pairs, singles

BRACES = Rubric("braces", "Is {this} clear?", ("{question}", "b", "c", "d", "{answer}"))


def matches_of(rubric: Rubric):
    references = {1: ("four", "five")}
    return single_matches(
        judging("single", prompts=rubric_prompts(rubric), references=references, reference_set="r")
    ).judged


@pytest.mark.parametrize(("number", "score"), [(1, 1.0), (2, 3.25), (3, 5.5), (4, 7.75), (5, 10.0)])
def test_one_to_five_becomes_one_to_ten_in_equal_steps(number, score):
    verdict = read_result(f"Clear enough. [RESULT] {number}")
    assert (verdict.status, verdict.score) == ("ok", score)


@pytest.mark.parametrize(
    ("text", "status", "rule"),
    [
        ("[RESULT] 6", "unscored", "out_of_range"),
        ("[RESULT] 0", "unscored", "out_of_range"),
        ("[RESULT] 3.5", "unscored", "out_of_range"),
        ("[RESULT] 25", "unscored", "out_of_range"),
        ("[RESULT] -3", "unscored", "out_of_range"),
        ("a good answer, 4", "unscored", "no_result"),
        ("Rating: [[4]]", "unscored", "no_result"),
        ("  ", "unscored", "empty"),
        ("[RESULT] 2 no: [RESULT] 4", "ambiguous", "last_result"),
        ("**[RESULT]** 4".replace("**", ""), "ok", "last_result"),
        ("[result]: **4**", "ok", "last_result"),
        ("<think>[RESULT] 1</think> So: [RESULT] 4", "ok", "last_result"),
        ("<think>[RESULT] 1", "unscored", "reasoning_only"),
    ],
)
def test_what_counts_as_a_result(text, status, rule):
    verdict = read_result(text)
    assert (verdict.status, verdict.rule) == (status, rule)
    assert verdict.score == (7.75 if status != "unscored" else None)


@given(st.text())
def test_no_text_raises_or_leaves_the_range(text):
    score = read_result(f"[RESULT] {text}").score
    assert score is None or 1.0 <= score <= 10.0


@pytest.mark.parametrize(
    "unit",
    ["<think>", "<think></thought>", "<think>x</think>", "[RESULT] ", "[RESULT]", "\n", "</think>", "[RESULT] 4 ", "9"],
)
def test_a_megabyte_of_hostile_text_is_read_in_linear_time(unit):
    text = "[RESULT]" + unit * (1_000_000 // len(unit))
    start = time.process_time()
    read_result(text)
    assert time.process_time() - start < 1.0


def test_stored_judgments_read_back_as_the_rubrics_score(tmp_path):
    rubric = read_rubrics()["clarity"]
    judge = RubricJudge(ScriptedJudge("Plain words. [RESULT] 4", name="writer"), rubric)
    judged = judge_matches(judge, matches_of(rubric), tmp_path)
    rows = read_single(judged.judgments)
    assert {row.score for row in rows} == {7.75}
    assert {row.judge_name for row in rows} == {"writer-rubric-clarity"}
    assert {verdict.score for verdict in key_verdicts(rows)} == {7.75}


def test_replies_that_failed_or_were_cut_off_have_no_score():
    rubric = read_rubrics()["clarity"]
    replies = (JudgeReply("", error="down"), JudgeReply("[RESULT] 4", finish_reason="length"))
    found = dict(RubricJudge(ScriptedJudge(*replies), rubric).judge(matches_of(rubric)[:2]))
    assert found[0] == replies[0]
    assert found[1].verdict.rule == "cut_off"


def test_the_prompt_shows_the_rubric_and_the_dialogue_and_keeps_braces():
    first, *_, last = matches_of(BRACES)
    assert "Is {this} clear?\nScore 1: {question}\n" in first.user_prompt
    assert "<question>\nask 1.1\n</question>" in first.user_prompt
    assert "<reference answer>\nfour\n</reference answer>" in first.user_prompt
    assert "<assistant's answer>\nm 1.1\n</assistant's answer>" in first.user_prompt
    assert "<assistant's second answer>\nm 2.2\n</assistant's second answer>" in last.user_prompt
    assert "Rate the assistant's second answer" in last.user_prompt


def test_the_shipped_rubrics_are_whole():
    rubrics = read_rubrics()
    assert list(rubrics) == ["correctness", "instructions", "completeness", "clarity"]
    assert all(len(set(rubric.scores)) == 5 for rubric in rubrics.values())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": "Two Words"}, "name is 'Two Words'"),
        ({"criterion": " "}, "criterion is ' '"),
        ({"scores": ["a", "b"]}, "scores is"),
    ],
)
def test_a_wrong_rubric_is_named_with_its_line(tmp_path, change, message):
    row = {"name": "x", "criterion": "y", "scores": list("abcde")}
    path = tmp_path / "rubrics.jsonl"
    path.write_text(json.dumps(row) + "\n" + json.dumps(row | change) + "\n")
    with pytest.raises(DataError, match=rf"rubrics.jsonl:2: {message}"):
        read_rubrics(path)


def test_a_file_without_rubrics_is_refused(tmp_path):
    (tmp_path / "none.jsonl").write_text("")
    with pytest.raises(DataError, match="holds no rubric"):
        read_rubrics(tmp_path / "none.jsonl")


def test_pairs_and_other_prompts_are_refused():
    judge = RubricJudge(ScriptedJudge("[RESULT] 4"), BRACES)
    for matches in (pairs(1), singles(1)):
        with pytest.raises(RecipeError, match=r"judge script-rubric-braces is shown (pair|single) prompts named"):
            list(judge.judge(matches))


def test_the_identity_holds_rubric_and_writer():
    other = dataclasses.replace(BRACES, criterion="Is that clear?")
    writer = ScriptedJudge("")
    assert RubricJudge(writer, BRACES).identity != RubricJudge(writer, other).identity
    assert RubricJudge(writer, BRACES).identity["judge"] == {"kind": "script"}
