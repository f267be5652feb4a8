from pathlib import Path

import pytest

from distill.errors import GateError
from eval.mt_bench.judging_cost import OutOfBudget
from eval.mt_bench.judging_gates import require_all_asked, require_verdicts
from tests.eval.mt_bench.test_call_store import call

STORE = Path("j_single.calls.jsonl")
GOOD, SILENT, FAILED = call("a"), call("b", text="hm"), call("c", "failed", error="asleep")


def gate(*calls, rate: float) -> None:
    require_verdicts("j", [(("m",), found) for found in calls], max_failure_rate=rate, store=STORE)


def test_few_failures_pass_and_the_bound_itself_does():
    gate(GOOD, GOOD, GOOD, SILENT, rate=0.25)


@pytest.mark.parametrize("bad", [SILENT, FAILED, None])
def test_unscored_failed_and_missing_calls_all_count(bad):
    with pytest.raises(GateError, match=r"m: 1 of 4 calls") as caught:
        gate(GOOD, GOOD, GOOD, bad, rate=0.2)
    assert caught.value.exit_code == 3


def test_the_commonest_reasons_are_told():
    with pytest.raises(GateError, match=r"2 x failed: asleep; 1 x unscored: no_verdict; 1 x not answered"):
        gate(FAILED, SILENT, FAILED, None, rate=0.0)


def test_a_pairs_failure_counts_for_both():
    with pytest.raises(GateError, match=r"a: 1 of 1 calls; b: 1 of 1 calls"):
        require_verdicts("j", [(("a", "b"), None)], max_failure_rate=0.0, store=STORE)


def test_missing_calls_pass_where_no_budget_cut_them():
    require_all_asked(3, of=4, stopped=None)
    with pytest.raises(GateError, match=r"3 of 4 calls were not made: 0.5000 is spent.*max_cost 1"):
        require_all_asked(3, of=4, stopped=OutOfBudget(max_cost=1.0, spent=0.5, next_cost=0.6))
