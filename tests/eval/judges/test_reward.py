import dataclasses

import pytest
import torch

from distill.errors import RecipeError
from distill.models import LoadedModel
from distill.models.scalar_head import with_scalar_head
from distill.reward import Calibration, RewardModel
from eval.judges.reward import RewardJudge
from eval.mt_bench import read_pair
from eval.mt_bench.judging import judge_matches
from eval.mt_bench.matches import all_pairs
from tests.judge_cases import answer, judging, pairs, singles


@pytest.fixture(scope="module")
def reward_model(make_model) -> RewardModel:
    loaded = make_model(5)
    head = torch.linspace(-1.0, 1.0, loaded.model.config.hidden_size)
    whole = LoadedModel(with_scalar_head(loaded.model, head), loaded.tokenizer, "tiny", "fp-reward")
    return RewardModel(whole, Calibration(mean=0.0, scale=2.0, num_pairs=3))


def rewards_of(model, match) -> list[float]:
    return [model.score([match.conversation(slot)]).item() for slot in range(len(match.answers))]


def test_a_pair_goes_to_the_higher_reward_in_either_order(reward_model):
    matches = pairs(3)
    replies = dict(RewardJudge(reward_model, name="rm").judge(matches))
    for index, match in enumerate(matches):
        first, second = rewards_of(reward_model, match)
        assert replies[index].verdict.winner == ("A" if first > second else "B")
        assert replies[index].verdict.status == "ok"
    winners = {match.models["AB".index(replies[i].verdict.winner)] for i, match in enumerate(matches[:2])}
    assert len(winners) == 1  # two orders of one pair


def test_the_files_are_consistent_in_both_orders(reward_model, tmp_path):
    judged = judge_matches(RewardJudge(reward_model, name="rm"), pairs(3), tmp_path)
    rows = read_pair(judged.judgments)
    assert len(rows) == 6
    assert all(row.g1_winner == row.g2_winner for row in rows)
    assert {row.judge_name for row in rows} == {"rm-reward"}


def test_within_the_margin_it_is_a_tie(reward_model):
    [match, *_] = pairs(1)
    first, second = rewards_of(reward_model, match)
    for margin, is_tie in ((abs(first - second) + 0.01, True), (abs(first - second) - 0.01, False)):
        [(_, reply)] = RewardJudge(reward_model, name="rm", margin=margin).judge([match])
        assert (reply.verdict.winner == "tie") == is_tie


def test_the_same_answer_twice_is_a_tie(reward_model):
    asked = judging("pair", num_questions=1, models=("a", "b"))
    same = dataclasses.replace(asked, answers={model: {1: answer(1, model, "x", "y")} for model in ("a", "b")})
    replies = RewardJudge(reward_model, name="rm").judge(all_pairs(same).judged)
    assert {reply.verdict.winner for _, reply in replies} == {"tie"}


def test_single_scores_are_calibrated_rewards(reward_model):
    [match, *_] = singles(1)
    [(_, reply)] = RewardJudge(reward_model, name="rm").judge([match])
    [reward] = rewards_of(reward_model, match)
    assert reply.verdict.score == pytest.approx(reward_model.calibration.score(reward), abs=1e-3)
    assert reply.text == f"reward {round(reward, 4):.4f}"


def test_single_scores_need_a_calibration(reward_model):
    judge = RewardJudge(dataclasses.replace(reward_model, calibration=None), name="rm")
    with pytest.raises(RecipeError, match=r"judge rm-reward is to score single answers.*never calibrated"):
        list(judge.judge(singles(1)))
    assert len(list(judge.judge(pairs(1)))) == 4


def test_an_answer_too_long_fails_and_no_other_does(reward_model):
    asked = judging("pair", num_questions=2, models=("a", "b"))
    answers = {model: dict(rows) for model, rows in asked.answers.items()}
    answers["a"][1] = answer(1, "a", "x" * 300, "y")
    matches = all_pairs(dataclasses.replace(asked, answers=answers)).judged
    replies = dict(RewardJudge(reward_model, name="rm").judge(matches))
    failed = {matches[index].question.question_id for index, reply in replies.items() if reply.error}
    assert failed == {1}
    assert all("the reward model reads 128" in reply.error for reply in replies.values() if reply.error)


def test_a_negative_margin_is_refused(reward_model):
    with pytest.raises(RecipeError, match="margin is -1"):
        RewardJudge(reward_model, name="rm", margin=-1.0)


def test_the_identity_holds_the_margin(reward_model):
    assert RewardJudge(reward_model, name="rm").identity != RewardJudge(reward_model, name="rm", margin=1.0).identity
