import pytest

from distill.errors import DataError
from eval.judged_pairs import JudgedPair, by_question, judged_pairs
from eval.mt_bench.judgments import PairJudgment


def row(question, first, second, *, turn=1, judge="judge", models=("student", "teacher")):
    prompts = (None, None, None, None)
    return PairJudgment(question, *models, first, second, (judge, "pair-v2"), *prompts, turn, 0.0)


@pytest.mark.parametrize(
    ("games", "conservative", "averaged", "is_consistent", "slots"),
    [
        (("model_1", "model_1"), 1.0, 1.0, True, (1.0, 0.0)),
        (("model_2", "model_2"), 0.0, 0.0, True, (0.0, 1.0)),
        (("tie", "tie"), 0.5, 0.5, True, (0.5, 0.5)),
        (("model_1", "model_2"), 0.5, 0.5, False, (1.0, 1.0)),
        (("model_2", "model_1"), 0.5, 0.5, False, (0.0, 0.0)),
        (("model_1", "tie"), 0.5, 0.75, False, (1.0, 0.5)),
        (("tie", "model_2"), 0.5, 0.25, False, (0.5, 1.0)),
    ],
)
def test_two_orders_make_one_outcome(games, conservative, averaged, is_consistent, slots):
    """Game 1 shows model 1 in the first slot, game 2 model 2."""
    pair = JudgedPair(1, 1, "judge", "student", "teacher", games)
    assert (pair.outcome(), pair.outcome("averaged")) == (conservative, averaged)
    assert (pair.outcome_of("teacher"), pair.outcome_of("student", "averaged")) == (1 - conservative, averaged)
    assert (pair.is_scored, pair.is_consistent, pair.first_slots) == (True, is_consistent, slots)


def test_pairs_are_kept_by_judge_and_the_last_row_counts():
    rows = [
        row(1, "tie", "tie"),
        row(1, "model_1", "error"),
        row(1, "tie", "tie", turn=2),
        row(2, "tie", "tie", judge="b"),
    ]
    lengths = {("student", 1, 1): 10, ("teacher", 1, 1): 20, ("student", 1, 2): 5}
    pairs = judged_pairs(rows, lengths=lengths)
    assert list(pairs) == ["judge", "b"]
    first, second = pairs["judge"]
    assert (first.games, first.is_scored, first.lengths) == (("model_1", "error"), False, (10, 20))
    assert second.lengths is None
    assert [len(group) for group in by_question(pairs["judge"] + pairs["b"])] == [2, 1]


def test_another_model_has_no_outcome():
    with pytest.raises(DataError, match="other is not in the pair student, teacher"):
        JudgedPair(1, 1, "judge", "student", "teacher", ("tie", "tie")).outcome_of("other")
