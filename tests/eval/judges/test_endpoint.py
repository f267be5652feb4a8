import itertools
import logging
import threading

import pytest

from distill.errors import EndpointError, GateError
from eval.judges.chat_request import ChatJudgeSettings
from eval.judges.endpoint import EndpointJudge
from eval.mt_bench.call_store import read_calls
from eval.mt_bench.judging import judge_matches
from eval.mt_bench.judging_cost import Budget, Price
from eval.mt_bench.judgments import read_single
from tests.judge_cases import singles
from tests.judge_server import Fault, judging_server


@pytest.fixture
def server():
    with judging_server() as server:
        yield server


def judge(server, **changes: object) -> EndpointJudge:
    values = {"base_url": server.url, "model": "judge-1", "max_concurrent": 2, "max_retries": 3, "timeout_s": 5.0}
    return EndpointJudge(ChatJudgeSettings.model_validate(values | changes))


def replies(asking: EndpointJudge, num_questions: int = 1) -> list:
    matches = singles(num_questions)
    return [reply for _, reply in sorted(asking.judge(matches), key=lambda row: row[0])]


def test_the_request_spells_out_the_sampling_and_the_reply_is_kept_whole(server):
    reply = replies(judge(server, max_concurrent=1))[0]
    assert server.requests[0] == {
        "model": "judge-1",
        "messages": [{"role": "system", "content": "Be fair."}, {"role": "user", "content": "Q ask 1.1 A m 1.1"}],
        "temperature": 0.0,
        "max_tokens": 2048,
        "seed": 0,
    }
    assert (reply.text, reply.finish_reason, reply.model) == ("Fine.\n\nRating: [[7]]", "stop", "judge-2024")
    assert (reply.system_fingerprint, reply.num_prompt_tokens, reply.num_completion_tokens) == ("fp_1", 50, 10)


def test_a_faulty_server_is_survived_with_nothing_lost_and_nothing_judged_twice(server, tmp_path):
    """12 calls; of the first nine requests eight meet a fault that passes and one a reply of nonsense."""
    server.faults = [
        Fault(429, headers={"retry-after": "0.02"}),
        Fault(500),
        Fault(hangs_up=True),
        Fault(503),
        Fault(delay_s=1.3),
        Fault(408),
        Fault(raw='{"choices": "none"}'),
        Fault(429),
        Fault(hangs_up=True),
    ]
    long = itertools.count()
    server.reply = lambda body: (
        ("<think>[[1]]</think>Good.\n\nRating: [[7]]", "stop")
        if body["max_tokens"] > 2048 or next(long) % 4
        else ("Let me think at length about [[2]]", "length")
    )
    asking = judge(server, timeout_s=1.0)
    done = judge_matches(asking, singles(6), tmp_path, max_failure_rate=1.0)
    assert (done.num_ok, done.num_failed, done.num_missing) == (11, 1, 0)
    failed = [call for call in read_calls(done.calls) if call.status == "failed"]
    assert "no choices[0].message" in (failed[0].error or "")
    num_requests = len(server.requests)
    done = judge_matches(judge(server), singles(6), tmp_path, retry_failed=True)
    calls = read_calls(done.calls)
    assert (done.num_asked, done.num_ok, done.num_failed) == (1, 12, 0)
    assert len(server.requests) - num_requests in (1, 2)
    assert len([call for call in calls if call.status == "done"]) == len({call.key for call in calls}) == 12
    assert {row.score for row in read_single(done.judgments)} == {7}


@pytest.mark.parametrize("code", [401, 403, 404])
def test_a_lasting_refusal_stops_the_run_with_the_servers_words_and_marks_no_call(server, tmp_path, code: int):
    server.faults = [Fault(), Fault(), *[Fault(code, "so says the server")] * 9]
    with pytest.raises(EndpointError, match=rf"(?s)status {code}.*so says the server.*judge.endpoint"):
        judge_matches(judge(server, max_concurrent=1), singles(4), tmp_path)
    calls = read_calls(tmp_path / "model_judgment" / "judge-1_single.calls.jsonl")
    assert [call.status for call in calls] == ["done", "done"]
    assert len(server.requests) == 3


@pytest.mark.parametrize("code", [400, 422])
def test_a_request_that_is_refused_is_a_failed_call_and_the_run_goes_on(server, tmp_path, code: int):
    server.faults = [Fault(), Fault(code, "the context is too long"), Fault()]
    done = judge_matches(judge(server, max_concurrent=1), singles(3), tmp_path, max_failure_rate=0.5)
    assert (done.num_ok, done.num_failed, done.num_missing) == (5, 1, 0)
    assert len(server.requests) == 6
    [failed] = [call for call in read_calls(done.calls) if call.status == "failed"]
    assert "the context is too long" in (failed.error or "")


def test_refusals_from_the_start_stop_the_run_and_say_so(server, tmp_path):
    server.refusal = lambda body: "billing is not set up"
    asking = judge(server, max_concurrent=1)
    with pytest.raises(EndpointError, match=r"(?s)first 5 calls of judge-1 were all refused.*billing.*--retry-failed"):
        judge_matches(asking, singles(6), tmp_path)
    assert len(server.requests) == 5
    server.refusal = lambda body: None
    done = judge_matches(judge(server, max_concurrent=1), singles(6), tmp_path, retry_failed=True)
    assert (done.num_ok, done.num_failed) == (12, 0)


def test_refusals_from_the_start_are_counted_over_the_blocks_of_a_budget(server, tmp_path):
    """The budget covers one call at a time."""
    server.refusal = lambda body: "billing is not set up"
    budget = Budget(Price(prompt=0, completion=1e6), max_cost=6_144, max_completion_tokens=6_144)
    with pytest.raises(EndpointError, match="first 5 calls of judge-1 were all refused"):
        judge_matches(judge(server, max_concurrent=1), singles(6), tmp_path, budget=budget)
    assert len(server.requests) == 5


def test_one_answer_shows_that_refusals_are_of_single_requests(server):
    server.faults = [*[Fault(400)] * 4, Fault(), *[Fault(400)] * 6]
    found = replies(judge(server, max_concurrent=1), 6)
    assert [bool(reply.error) for reply in found] == [True] * 4 + [False] + [True] * 6 + [False]


def test_a_second_try_that_fails_is_a_failed_call_that_was_answered_once(server):
    """Its first try was paid for, so that it is not `is_refused`, which costs nothing."""
    server.reply = lambda body: ("Well", "length")
    server.faults = [Fault(), Fault(500)]
    reply = replies(judge(server, max_concurrent=1, max_retries=0))[0]
    assert (reply.text, reply.is_refused) == ("", False)
    assert "status 500" in (reply.error or "")


def test_calls_under_way_when_the_run_stops_are_kept(server, tmp_path):
    """The first is slow and good, the second is refused meanwhile."""
    server.faults = [Fault(delay_s=0.2), Fault(401, "no")]
    with pytest.raises(EndpointError, match="status 401"):
        judge_matches(judge(server), singles(1), tmp_path)
    calls = read_calls(tmp_path / "model_judgment" / "judge-1_single.calls.jsonl")
    assert [call.status for call in calls] == ["done"]


def test_failures_in_a_row_stop_the_run(server, tmp_path):
    server.faults = [Fault(), *[Fault(500, "out of memory")] * 99]
    asking = judge(server, max_retries=0, max_consecutive_failures=3, max_concurrent=1)
    with pytest.raises(EndpointError, match=r"(?s)3 calls of judge-1 failed in a row.*out of memory.*--retry-failed"):
        judge_matches(asking, singles(5), tmp_path)
    calls = read_calls(tmp_path / "model_judgment" / "judge-1_single.calls.jsonl")
    assert [call.status for call in calls] == ["done", "failed", "failed", "failed"]


def test_a_reply_breaks_a_row_of_failures(server):
    server.faults = [Fault(500), Fault(500), Fault(), Fault(500), Fault(500), Fault()]
    asking = judge(server, max_retries=0, max_consecutive_failures=3, max_concurrent=1)
    assert [bool(reply.error) for reply in replies(asking, 3)] == [True, True, False, True, True, False]


def test_what_was_cut_off_is_asked_once_more_with_twice_the_length(server):
    server.reply = lambda body: (
        ("Rating: [[7]]", "stop") if body["max_tokens"] == 200 else ("Rating: [[9]] or", "length")
    )
    reply = replies(judge(server, max_tokens=100, max_concurrent=1))[0]
    assert [body["max_tokens"] for body in server.requests[:2]] == [100, 200]
    assert (reply.text, reply.num_prompt_tokens, reply.num_completion_tokens) == ("Rating: [[7]]", 100, 20)


def test_what_is_cut_off_twice_has_no_verdict(server, tmp_path):
    server.reply = lambda body: ("Rating: [[9]] or", "length")
    done = judge_matches(judge(server), singles(1), tmp_path, max_failure_rate=1.0)
    assert (done.num_unscored, len(server.requests)) == (2, 4)


def test_a_server_that_refuses_the_greater_length_does_not_stop_the_run(server):
    server.reply = lambda body: ("Well", "length")
    server.refusal = lambda body: "too many tokens" if body["max_tokens"] > 2048 else None
    assert [(reply.text, reply.finish_reason) for reply in replies(judge(server))] == [("Well", "length")] * 2


def test_the_cap_is_called_what_the_server_calls_it(server, caplog):
    server.refusal = lambda body: "Use 'max_completion_tokens' instead." if "max_tokens" in body else None
    with caplog.at_level(logging.WARNING):
        assert [reply.error for reply in replies(judge(server, max_concurrent=1))] == [None, None]
    assert [body.get("max_completion_tokens") for body in server.requests] == [None, 2048, 2048]
    assert "wants max_completion_tokens" in caplog.text


def test_a_temperature_that_is_not_supported_is_left_out_and_told(server, caplog):
    server.refusal = lambda body: "'temperature' does not support 0" if "temperature" in body else None
    with caplog.at_level(logging.WARNING):
        found = replies(judge(server, max_concurrent=1))
    assert [reply.left_out for reply in found] == [("temperature",)] * 2
    assert "refuses temperature: asked without" in caplog.text


def test_a_servers_whole_bill_stays_below_the_limit_when_every_reply_is_cut_off(server, tmp_path):
    """Billed by the bytes of each prompt and the whole cap of each try, first and doubled."""

    def usage(body: dict) -> dict[str, int]:
        size_bytes = sum(len(message["content"].encode()) for message in body["messages"])
        return {"prompt_tokens": size_bytes, "completion_tokens": body["max_tokens"]}

    server.reply, server.usage = lambda body: ("Well", "length"), usage
    budget = Budget(Price(prompt=1e6, completion=1e6), max_cost=5_000, max_completion_tokens=300, num_tries=2)
    with pytest.raises(GateError, match="calls were not made"):
        judge_matches(judge(server, max_tokens=100), singles(20), tmp_path, budget=budget)
    assert 5_000 - 1_000 < sum(sum(usage(body).values()) for body in server.requests) <= 5_000


def test_several_are_asked_at_once_and_never_more_than_allowed(server):
    server.faults = [Fault(delay_s=0.15)] * 12
    assert len(replies(judge(server, max_concurrent=3), 6)) == 12
    assert server.most_at_once == 3


def test_requests_keep_to_the_minutes_limit(server):
    """6,000 requests and 30,000,000 tokens a minute hold up nothing here; 60 a minute would take seconds."""
    waits: list[float] = []
    asking = judge(server, requests_per_minute=60, max_concurrent=1)
    bucket = asking._limits[0]
    asking._limits[0] = type("Told", (), {"take": lambda _, amount: waits.append(bucket.take(amount)) or 0.0})()
    replies(asking, 2)
    assert waits[0] == 0.0
    assert waits[1] > 0.5
    assert waits[3] > waits[1]


def test_two_hosts_of_one_model_are_two_judges(server):
    here = judge(server).identity
    there = EndpointJudge(ChatJudgeSettings(base_url="https://other.example/v1", model="judge-1")).identity
    assert here["host"] == "127.0.0.1"
    assert here != there


def test_ending_early_leaves_no_thread_behind(server):
    asking = judge(server).judge(singles(5))
    next(asking)
    asking.close()
    for thread in [thread for thread in threading.enumerate() if thread.name.startswith("judge")]:
        thread.join(5)
        assert not thread.is_alive()
