import pytest

from distill.embedded import check_answer, draw
from distill.models import load_model
from eval.judges.base import JudgeReply
from eval.judges.embedded_judge import (
    RIGHT,
    checker_agreement,
    embedded_pairs,
    embedded_reward,
    right_against_wrong,
)
from eval.judges.logit import LogitJudge
from eval.judges.reward import RewardJudge
from eval.mt_bench.questions import embedded_questions
from eval.mt_bench.verdicts import Verdict


def test_chosen_is_right_and_rejected_is_wrong_by_the_checker():
    pairs = embedded_pairs("valid", num_dialogues=12, seed=1)
    facts = {str(row["id"]): row["facts"] for row in draw("valid", num_dialogues=12, seed=1)}
    assert len(pairs) >= 15
    for pair in pairs:
        dialogue, turn = pair.id.rsplit(":", 1)
        assert check_answer(facts[dialogue], int(turn), pair.chosen).is_right
        assert not check_answer(facts[dialogue], int(turn), pair.rejected).is_right
        assert pair.prompt[-1].role == "user"


def test_equal_seeds_give_equal_pairs():
    assert embedded_pairs("valid", num_dialogues=5, seed=1) == embedded_pairs("valid", num_dialogues=5, seed=1)


class ByModel:
    """Says who is right from the models' names."""

    name, identity = "by-name", {}

    def __init__(self, *winners: str) -> None:
        self._winners = winners

    def judge(self, matches):
        for index, match in enumerate(matches):
            right = "A" if match.models[0] == RIGHT else "B"
            chosen = self._winners[match.game - 1]
            winner = right if chosen == "right" else "tie" if chosen == "tie" else "B" if right == "A" else "A"
            yield index, JudgeReply("", verdict=Verdict("ok", "name", None, winner=winner))


def test_agreement_counts_ties_half():
    matches = right_against_wrong(embedded_questions()[:4], seed=0)
    assert len(matches) == 8
    for winners, share in ((("right", "right"), 1.0), (("right", "wrong"), 0.5), (("tie", "wrong"), 0.25)):
        assert checker_agreement(ByModel(*winners), matches, seed=0).mean == share


@pytest.mark.slow
def test_a_small_head_on_the_teacher_tells_right_from_wrong_better_than_chance():
    """Weakly: a coin gets more than 0.6 of 90 held-out pairs in one case of thirty."""
    made = embedded_reward(num_dialogues=80, num_held_out=40)
    assert made.accuracy > 0.6
    assert made.num_held_out >= 80
    matches = right_against_wrong(embedded_questions()[:4], seed=0)
    replies = dict(RewardJudge(made.fitted.model, name="embedded").judge(matches))
    assert all(reply.error is None for reply in replies.values())


def test_the_short_prompts_fit_the_teacher():
    """The teacher reads 512 tokens; a prompt that did not fit would fail, not be cut."""
    matches = right_against_wrong(embedded_questions(), seed=0)
    longest = max(matches, key=lambda match: len(match.user_prompt))
    [(_, reply)] = LogitJudge(load_model("embedded", device="cpu"), name="embedded").judge([longest])
    assert reply.error is None
    assert reply.verdict is not None
