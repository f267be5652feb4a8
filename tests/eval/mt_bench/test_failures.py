import pytest

from distill.errors import GateError, RecipeError
from eval.mt_bench.failures import require_few_failures
from eval.mt_bench.judgments import PairJudgment, SingleJudgment
from eval.mt_bench.strict import strict_single
from eval.mt_bench.strict_pair import strict_pair


def scores(num_failed: int, num_rows: int = 100):
    texts = ["$ERROR$"] * num_failed + ["[[5]]"] * (num_rows - num_failed)
    return strict_single(SingleJudgment(i, "m", ("judge", "p"), "p", text, 5, 1, None) for i, text in enumerate(texts))


def test_two_failures_in_a_hundred_pass_and_three_do_not():
    require_few_failures(scores(2))
    with pytest.raises(
        GateError, match=r"m judged by judge: 3 of 100 verdicts have no score; 5\.00(?s:.*)at most 2 %"
    ) as error:
        require_few_failures(scores(3))
    assert error.value.exit_code == 3
    require_few_failures(scores(3), max_failure_rate=0.03)


def test_the_gate_holds_for_comparisons_too():
    row = PairJudgment(1, "a", "b", "error", "error", ("judge", "p"), "x", "none", "y", "none", 1, None)
    with pytest.raises(
        GateError, match=r"a judged by judge: 1 of 1 comparisons have no verdict; no rate, between 0\.000 and 1\.000"
    ):
        require_few_failures(strict_pair([row]))


@pytest.mark.parametrize("rate", [-0.1, 1.1, float("nan")])
def test_a_rate_that_is_no_share_is_refused(rate: float):
    with pytest.raises(RecipeError, match="max_failure_rate is"):
        require_few_failures([], max_failure_rate=rate)
