from dataclasses import replace

import pytest

from eval.judges.mock import MockJudge, MockSettings
from eval.mt_bench.matches import all_pairs, single_matches
from eval.mt_bench.verdicts import read_score, read_winner
from tests.judge_cases import answer, judging, pairs, question, singles


def scores(judge: MockJudge, matches) -> list[float | None]:
    return [read_score(reply.text).score for _, reply in judge.judge(matches)]


def winners(judge: MockJudge, matches) -> list[str | None]:
    return [read_winner(reply.text).winner for _, reply in judge.judge(matches)]


def test_length_gives_a_point_for_every_200_characters():
    answers = {"m": {1: answer(1, "m", "x" * 600, "x" * 99_999)}}
    matches = single_matches(judging("single", num_questions=1, answers=answers)).judged
    assert scores(MockJudge(MockSettings(rule="length")), matches) == [4.0, 10.0]


def test_the_oracle_knows_the_reference():
    answers = {"m": {1: answer(1, "m", "I say: Forty-Two!", "no")}}
    given = judging("single", num_questions=1, answers=answers, references={1: ("forty two", "yes")}, reference_set="r")
    assert scores(MockJudge(MockSettings()), single_matches(given).judged) == [10.0, 1.0]


def test_the_oracle_asks_the_checker_that_the_facts_name():
    facts = {"checker": "known-answer", "personality": "calm", "answers": {"calm": "All is well.", "bold": "Go!"}}
    answers = {"m": {1: answer(1, "m", "all is well", "perhaps")}}
    given = judging("single", questions=[replace(question(1), facts=facts)], answers=answers)
    assert scores(MockJudge(MockSettings()), single_matches(given).judged) == [10.0, 1.0]


def test_without_bias_both_orders_agree():
    answers = {"a": {1: answer(1, "a", "x" * 900, "x")}, "b": {1: answer(1, "b", "x", "x")}}
    matches = all_pairs(judging("pair", num_questions=1, answers=answers)).judged
    assert winners(MockJudge(MockSettings(rule="length")), matches) == ["A", "B", "tie", "tie"]


def test_a_blind_judge_leans_to_the_first_slot_as_often_as_it_is_told():
    """400 draws with p = 0.8: standard deviation 0.02, so 0.72 to 0.88 is four of them."""
    given = winners(MockJudge(MockSettings(blind=1.0, first_slot=0.8)), pairs(100))
    assert len(given) == 400
    assert 0.72 < given.count("A") / 400 < 0.88


def test_a_share_of_replies_holds_no_verdict():
    given = scores(MockJudge(MockSettings(unparsed=0.5)), singles(50))
    assert 30 < given.count(None) < 70


def test_noise_is_drawn_by_seed_and_call_alone():
    noisy = MockJudge(MockSettings(rule="length", noise=3))
    matches = singles(20)
    assert scores(noisy, matches) == scores(noisy, matches[::-1])[::-1]
    assert scores(noisy, matches) != scores(MockJudge(MockSettings(rule="length", noise=3, seed=1)), matches)


@pytest.mark.parametrize("form", ["[[A]]", "[[A>>B]]", "[[rating_a,rating_b]]"])
def test_each_format_of_pairs_is_spoken(form: str):
    answers = {"a": {1: answer(1, "a", "x" * 900, "x")}, "b": {1: answer(1, "b", "x", "x")}}
    matches = all_pairs(judging("pair", num_questions=1, answers=answers)).judged
    changed = [replace(match, prompt=replace(match.prompt, output_format=form)) for match in matches]
    judge = MockJudge(MockSettings(rule="length"))
    found = [read_winner(reply.text, output_format=form).winner for _, reply in judge.judge(changed)]
    assert found == ["A", "B", "tie", "tie"]
