import json
import math
import multiprocessing
import os
import signal
import time

import pytest

from distill.errors import DataError, EndpointError, GateError, RecipeError, StageError
from eval.judges.base import JudgeReply, call_key
from eval.judges.mock import MockJudge, MockSettings
from eval.mt_bench.call_store import open_calls, read_calls
from eval.mt_bench.judging import judge_matches, pending_matches, plan_judging
from eval.mt_bench.judging_cost import Budget, Price, most_prompt_tokens
from eval.mt_bench.judgments import read_single
from eval.mt_bench.matches import Match
from tests.judge_cases import ScriptedJudge, pairs, singles

GOOD = "Fine.\n\nRating: [[7]]"
FAILED = JudgeReply("", error="the server was asleep")


def test_a_second_run_asks_nothing_and_leaves_the_same_files(tmp_path):
    first = judge_matches(ScriptedJudge(GOOD), singles(3), tmp_path, clock=lambda: 5.0)
    before = first.judgments.read_bytes(), first.meta.read_bytes(), first.calls.read_bytes()
    again = judge_matches(idle := ScriptedJudge(GOOD), singles(3), tmp_path, clock=lambda: 6.0)
    assert (idle.asked, again.num_asked, again.num_ok) == ([], 0, 6)
    assert (again.judgments.read_bytes(), again.meta.read_bytes(), again.calls.read_bytes()) == before


def test_only_what_is_new_is_asked(tmp_path):
    judge_matches(ScriptedJudge(GOOD), singles(2), tmp_path)
    judge_matches(judge := ScriptedJudge(GOOD), singles(3, ("m", "n")), tmp_path)
    assert len(judge.asked) == 12 - 4
    assert not [match for match in judge.asked if match.models == ("m",) and match.question.question_id < 3]


def test_a_failure_is_kept_and_asked_again_only_on_demand(tmp_path):
    options: dict = {"max_failure_rate": 1.0}
    done = judge_matches(ScriptedJudge(GOOD, FAILED, GOOD), singles(2), tmp_path, **options)
    assert (done.num_ok, done.num_failed, done.num_missing) == (3, 1, 0)
    assert [row.score for row in read_single(done.judgments)] == [7, 7, 7]
    done = judge_matches(idle := ScriptedJudge(GOOD), singles(2), tmp_path, **options)
    assert (idle.asked, done.num_failed) == ([], 1)
    done = judge_matches(judge := ScriptedJudge(GOOD), singles(2), tmp_path, retry_failed=True)
    assert (len(judge.asked), done.num_ok, done.num_failed) == (1, 4, 0)


def test_a_reply_without_a_verdict_is_asked_again_on_demand_and_the_later_reply_counts(tmp_path):
    done = judge_matches(ScriptedJudge(GOOD, "It is fine.", GOOD), singles(2), tmp_path, max_failure_rate=1.0)
    assert (done.num_ok, done.num_unscored) == (3, 1)
    done = judge_matches(judge := ScriptedJudge(GOOD), singles(2), tmp_path, retry_failed=True)
    assert (len(judge.asked), done.num_ok, done.num_unscored) == (1, 4, 0)
    assert [row.score for row in read_single(done.judgments)] == [7, 7, 7, 7]


def test_a_server_that_refuses_loses_nothing(tmp_path):
    judge = ScriptedJudge(GOOD, GOOD, EndpointError("no", why="key expired"), GOOD)
    with pytest.raises(EndpointError, match="key expired"):
        judge_matches(judge, singles(2), tmp_path)
    assert len(read_single(tmp_path / "model_judgment" / "script_single.jsonl")) == 2
    done = judge_matches(judge, singles(2), tmp_path)
    assert (done.num_asked, done.num_ok) == (2, 4)
    assert len(judge.asked) == len({call_key(judge, match) for match in judge.asked}) == 4


def test_ctrl_c_leaves_valid_files(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        judge_matches(ScriptedJudge(GOOD, KeyboardInterrupt()), singles(2), tmp_path)
    assert len(read_single(tmp_path / "model_judgment" / "script_single.jsonl")) == 1


def test_the_gate_is_on_each_model_and_comes_after_the_files(tmp_path):
    """2 of b's 4 calls say nothing: 25 % of all, 50 % of b's."""
    matches = singles(2, ("a", "b"))
    replies = ["no idea" if match.models == ("b",) and match.turn == 1 else GOOD for match in matches]
    with pytest.raises(GateError, match=r"(?s)without one are b: 2 of 4 calls.*at most 30 %.*2 x unscored: no_verdict"):
        judge_matches(ScriptedJudge(*replies, GOOD), matches, tmp_path, max_failure_rate=0.3)
    rows = read_single(tmp_path / "model_judgment" / "script_single.jsonl")
    assert sorted(row.score for row in rows) == [-1, -1, 7, 7, 7, 7, 7, 7]
    assert json.loads((tmp_path / "model_judgment" / "script_single.meta.json").read_text())["verdicts"] == {
        "ok": 6,
        "unscored": 2,
    }


def test_failed_and_unanswered_calls_count_against_the_gate(tmp_path):
    with pytest.raises(GateError, match=r"4 x failed: the server was asleep"):
        judge_matches(ScriptedJudge(FAILED), singles(2), tmp_path)
    assert not (tmp_path / "model_judgment" / "script_single.jsonl").exists()


def test_identical_answers_of_two_models_have_a_verdict_each(tmp_path):
    done = judge_matches(MockJudge(MockSettings()), singles(1, ("a", "b")), tmp_path)
    assert {row.model for row in read_single(done.judgments)} == {"a", "b"}
    keys = {call_key(ScriptedJudge(GOOD), match) for match in (*singles(1, ("a", "b")), *pairs(1))}
    assert len(keys) == 4 + 4


def test_foreign_judgments_are_never_overwritten(tmp_path):
    path = tmp_path / "model_judgment" / "script_single.jsonl"
    path.parent.mkdir()
    path.write_text("someone's work\n")
    with pytest.raises(DataError, match=r"(?s)was not made from script_single.calls.jsonl.*overwritten.*move it away"):
        judge_matches(ScriptedJudge(GOOD), singles(1), tmp_path)
    assert path.read_text() == "someone's work\n"


def test_two_runs_into_the_same_files_are_refused(tmp_path):
    with (
        open_calls(tmp_path / "model_judgment" / "script_single.calls.jsonl"),
        pytest.raises(StageError, match="in use by another process"),
    ):
        judge_matches(ScriptedJudge(GOOD), singles(1), tmp_path)


@pytest.mark.parametrize(
    ("matches", "options", "problem"),
    [
        ((), {}, "there is nothing to judge"),
        ((*singles(1), *pairs(1)), {}, "single answers and pairs are judged together"),
        (singles(1), {"repeats": 0}, "repeats is 0"),
        (singles(1), {"max_failure_rate": 2}, "max_failure_rate is 2"),
    ],
)
def test_impossible_requests_are_refused(tmp_path, matches, options: dict, problem: str):
    with pytest.raises(RecipeError, match=problem):
        judge_matches(ScriptedJudge(GOOD), matches, tmp_path, **options)
    assert not list(tmp_path.iterdir())


def test_a_machine_is_never_called_a_person(tmp_path):
    with pytest.raises(RecipeError, match="a judge is named human-ann"):
        judge_matches(ScriptedJudge(GOOD, name="human-ann"), singles(1), tmp_path)


def test_the_budget_stops_before_the_call_that_might_go_over_it_and_the_next_run_goes_on(tmp_path):
    """A call costs 1 (its 10 completion tokens at 0.1 each) and at most 2: 5 calls can be made of 6."""
    reply = JudgeReply(GOOD, "stop", num_prompt_tokens=0, num_completion_tokens=10)
    budget = Budget(Price(prompt=0, completion=100_000), max_cost=6.5, max_completion_tokens=20)
    with pytest.raises(GateError, match=r"(?s)3 of 8 calls were not made: 5.0000 is spent.*max_cost 6.5"):
        judge_matches(ScriptedJudge(reply), singles(4), tmp_path, budget=budget)
    done = judge_matches(ScriptedJudge(reply), singles(4), tmp_path, budget=budget)
    assert (done.num_asked, done.num_ok, done.cost) == (3, 8, 3.0)


def test_calls_that_come_to_nothing_count_against_the_budget_but_refused_ones_do_not(tmp_path):
    """At most 2 a call: after one failure 4.5 are left of 6.5; a refusal costs nothing."""
    budget = Budget(Price(prompt=0, completion=100_000), max_cost=6.5, max_completion_tokens=20)
    refused = JudgeReply("", error="too long", is_refused=True)
    with pytest.raises(GateError, match=r"5 of 8 calls were not made: 6.0000 is spent"):
        judge_matches(ScriptedJudge(FAILED), singles(4), tmp_path / "a", budget=budget)
    done = judge_matches(ScriptedJudge(refused), singles(4), tmp_path / "b", budget=budget, max_failure_rate=1.0)
    assert (done.num_failed, done.num_missing) == (8, 0)


def test_no_budget_is_blamed_for_calls_that_were_left_unanswered(tmp_path):
    class Absent(ScriptedJudge):
        def judge(self, matches):
            yield from ()

    budget = Budget(Price(prompt=1, completion=1), max_cost=math.inf, max_completion_tokens=20)
    with pytest.raises(GateError, match="4 x not answered"):
        judge_matches(Absent(GOOD), singles(2), tmp_path, budget=budget)


def test_a_plan_says_what_a_run_would_do_and_does_nothing(tmp_path):
    judge = ScriptedJudge(GOOD, FAILED)
    plan = plan_judging(judge, singles(2), tmp_path, max_completion_tokens=100)
    assert (plan.num_calls, plan.num_to_ask, plan.cost, list(tmp_path.iterdir())) == (4, 4, None, [])
    judge_matches(judge, singles(2), tmp_path, max_failure_rate=1.0)
    price = Price(prompt=1, completion=10)
    plan = plan_judging(judge, singles(2), tmp_path, max_completion_tokens=100, retry_failed=True, price=price)
    assert (plan.num_done, plan.num_failed_before, plan.num_to_ask) == (1, 3, 3)
    assert plan.max_cost == pytest.approx((sum(map(most_prompt_tokens, singles(2)[1:])) + 10 * 300) / 1e6)
    assert len(pending_matches(judge, singles(2), tmp_path, retry_failed=True)) == 3
    assert pending_matches(judge, singles(2), tmp_path) == {}


class SlowMock(MockJudge):
    """Takes a moment over each match."""

    def judge(self, matches):
        for row in super().judge(matches):
            time.sleep(0.005)
            yield row


def _judge_slowly(matches: tuple[Match, ...], folder) -> None:
    judge_matches(SlowMock(MockSettings(noise=2, rule="length")), matches, folder, clock=lambda: 5.0)


def test_a_run_that_is_killed_goes_on_and_ends_with_the_files_of_one_that_was_not(tmp_path):
    """Killed twice at work, once with a line cut off besides."""
    matches = pairs(20)
    _judge_slowly(matches, tmp_path / "whole")
    killed, forked = tmp_path / "killed", multiprocessing.get_context("fork")
    calls = killed / "model_judgment" / "mock-length_pair.calls.jsonl"
    for num_calls in (10, 35):
        process = forked.Process(target=_judge_slowly, args=(matches, killed))
        process.start()
        deadline = time.monotonic() + 60
        while len(read_calls(calls)) < num_calls and time.monotonic() < deadline:
            time.sleep(0.01)
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        assert num_calls <= len(read_calls(calls)) < len(matches)
        os.truncate(calls, calls.stat().st_size - 9)
    _judge_slowly(matches, killed)
    rows = read_calls(calls)
    assert len(rows) == len({row.key for row in rows}) == len(matches) == 80
    for name in ("mock-length_pair.jsonl", "mock-length_pair.meta.json", "mock-length_pair.calls.jsonl"):
        whole, resumed = (tmp_path / kind / "model_judgment" / name for kind in ("whole", "killed"))
        assert resumed.read_bytes() == whole.read_bytes()
