import pytest

from distill.errors import DataError
from eval.mt_bench.judgments import PairJudgment
from eval.mt_bench.questions import Question
from eval.mt_bench.strict_pair import pair_verdicts, strict_pair


def judged(
    game_1: str | None, game_2: str | None, *, question_id: int = 1, models=("a", "b"), turn=1, prompts=None, **more
):
    first, second = models
    prompts = prompts or (f"{first}{second}", f"{second}{first}")
    return PairJudgment(
        question_id=question_id,
        model_1=first,
        model_2=second,
        g1_winner="error",
        g2_winner="error",
        judge=("judge", "pair-v2"),
        g1_user_prompt=prompts[0],
        g1_judgment=game_1,
        g2_user_prompt=prompts[1],
        g2_judgment=game_2,
        turn=turn,
        tstamp=None,
        **more,
    )


@pytest.mark.parametrize(
    ("games", "winner", "is_consistent"),
    [
        (("[[A]]", "[[B]]"), "first", True),
        (("[[B]]", "[[A]]"), "second", True),
        (("[[C]]", "[[C]]"), "tie", True),
        (("[[A]]", "[[A]]"), "tie", False),
        (("[[C]]", "[[B]]"), "tie", False),
        (("[[A]]", "[[C]]"), "tie", False),
        (("[[A]]", "$ERROR$"), None, True),
        ((None, "[[A]]"), None, True),
    ],
)
def test_a_comparison_is_won_when_both_orders_say_so(games, winner, is_consistent):
    """Game 1 shows model 1 in slot A, game 2 in slot B."""
    (verdict,) = pair_verdicts([judged(*games)])
    assert (verdict.winner, verdict.is_consistent) == (winner, is_consistent)


def test_the_order_in_which_a_row_names_the_models_changes_nothing():
    (straight,) = pair_verdicts([judged("[[A]]", "[[A]]")])
    (turned,) = pair_verdicts([judged("[[A]]", "[[A]]", models=("b", "a"))])
    assert straight == turned
    assert straight.games == ("model_1", "model_2")
    (won,) = pair_verdicts([judged("[[A]]", "[[B]]", models=("b", "a"))])
    assert (won.first, won.winner, won.games) == ("a", "second", ("model_2", "model_2"))


def test_errors_and_missing_comparisons_are_counted_and_bound_the_rate():
    """One win, one inconsistent tie, one error, one missing: (1 + 1/2) / 2 = 0.75, from 1.5/4 to 3.5/4."""
    rows = [
        judged("[[A]]", "[[B]]"),
        judged("[[A]] or [[A]]", "[[B]], no, [[A]]", turn=2),
        judged("[[A]]", "no word", question_id=2),
    ]
    questions = [Question(1, "math", ("a", "b")), Question(2, "math", ("a", "b"))]
    (rate,) = strict_pair(rows, baseline="b", questions=questions)
    counts = (rate.num_wins, rate.num_ties, rate.num_losses, rate.num_errors, rate.num_missing)
    assert (rate.model, counts) == ("a", (1, 1, 0, 1, 1))
    assert (rate.num_inconsistent, rate.num_ambiguous) == (1, 1)
    assert (rate.win_rate_adjusted, rate.lower, rate.upper, rate.failure_rate) == (0.75, 0.375, 0.875, 0.5)
    assert (
        rate.failure_text
        == "2 of 4 comparisons have no verdict; 0.750 over the rest, between 0.375 and 0.875 if they had one"
    )


def test_all_pairs_give_every_model_a_line_and_what_one_wins_the_other_loses():
    rows = [
        judged("[[A]]", "[[B]]"),
        judged("[[A]]", "[[B]]", models=("b", "c")),
        judged("none", "none", models=("a", "c")),
    ]
    rates = {rate.model: rate for rate in strict_pair(rows)}
    assert list(rates) == ["a", "b", "c"]
    assert (rates["b"].num_wins, rates["b"].num_losses, rates["b"].num_errors) == (1, 1, 0)
    assert (rates["c"].num_wins, rates["c"].num_losses, rates["c"].num_errors) == (0, 1, 1)
    assert [rate.model for rate in strict_pair(rows, baseline="c")] == ["b", "a"]


def test_repeats_that_differ_are_a_tie_and_a_failed_repeat_gives_way():
    failed, won, lost = judged("$ERROR$", "[[B]]"), judged("[[A]]", "[[B]]"), judged("[[B]]", "[[A]]")
    (verdict,) = pair_verdicts([won, failed])
    assert (verdict.winner, verdict.num_rows) == ("first", 2)
    (verdict,) = pair_verdicts([won, lost])
    assert (verdict.winner, verdict.is_consistent) == ("tie", False)


def test_a_comparison_judged_on_two_sets_of_answers_is_refused():
    with pytest.raises(DataError, match="a against b: question 1, turn 1 is judged by judge on two different prompts"):
        strict_pair([judged("[[A]]", "[[B]]"), judged("[[A]]", "[[B]]", prompts=("other", "ba"))])
    turned = judged("[[B]]", "[[A]]", models=("b", "a"))
    assert len(pair_verdicts([judged("[[A]]", "[[B]]"), turned])) == 1


def test_two_scores_and_scores_compared_are_read_as_what_they_are():
    rows = [judged("[[8,6]]", "[[6,8]]")]
    assert pair_verdicts(rows, output_formats={"pair-v2": "[[rating_a,rating_b]]"})[0].winner == "first"
    (verdict,) = pair_verdicts([judged("Rating: [[6]]", "Rating: [[8]]", turn=None, m1_score=6, m2_score=8)])
    assert (verdict.winner, verdict.turn) == ("second", 1)
    assert pair_verdicts([judged("[[6]]", "[[6.1]]", m1_score=6, m2_score=6)])[0].winner == "tie"
    assert pair_verdicts([judged("[[6]]", "[[60]]", m1_score=6, m2_score=60)])[0].winner is None
    assert pair_verdicts([judged("[[8]]", "[[6]]", models=("b", "a"), m1_score=8, m2_score=6)])[0].winner == "second"
