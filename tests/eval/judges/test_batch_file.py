import json

import pytest

from distill.errors import DataError
from eval.judges.batch_file import BatchJudge
from eval.judges.chat_request import ChatJudgeSettings
from eval.mt_bench.judging import judge_matches, pending_matches
from eval.mt_bench.judgments import read_single
from tests.judge_cases import singles

SETTINGS = ChatJudgeSettings(base_url="http://host/v1", model="judge-1", max_tokens=77)


def result(key: str, *, status: int = 200, content: str = "Rating: [[6]]", reason: str = "stop") -> dict:
    choice = {"message": {"role": "assistant", "content": content}, "finish_reason": reason}
    body = {"model": "judge-2024", "choices": [choice], "usage": {"prompt_tokens": 9, "completion_tokens": 3}}
    return {"id": "x", "custom_id": key, "response": {"status_code": status, "body": body}, "error": None}


def written(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_requests_go_out_and_results_come_in_as_they_are_there(tmp_path):
    matches, path = singles(2), tmp_path / "requests.jsonl"
    judge = BatchJudge(SETTINGS)
    assert judge.write_requests(pending_matches(judge, matches, tmp_path), path) == 4
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    assert {name: rows[0][name] for name in ("method", "url")} == {"method": "POST", "url": "/v1/chat/completions"}
    assert (rows[0]["body"]["model"], rows[0]["body"]["max_tokens"]) == ("judge-1", 77)
    assert rows[0]["body"]["messages"][1] == {"role": "user", "content": "Q ask 1.1 A m 1.1"}
    keys = [row["custom_id"] for row in rows]
    assert len(set(keys)) == 4

    first = written(tmp_path / "first.jsonl", [result(keys[1]), result(keys[0])])
    done = judge_matches(BatchJudge(SETTINGS, results=[first]), matches, tmp_path, max_failure_rate=1.0)
    assert (done.num_ok, done.num_missing) == (2, 2)
    left = pending_matches(judge, matches, tmp_path)
    assert list(left) == keys[2:]
    second = written(tmp_path / "second.jsonl", [result(key) for key in left])
    done = judge_matches(BatchJudge(SETTINGS, results=[second]), matches, tmp_path)
    assert (done.num_asked, done.num_ok) == (2, 4)
    assert [row.score for row in read_single(done.judgments)] == [6] * 4


def test_errors_of_the_batch_are_failed_calls_and_a_result_displaces_them(tmp_path):
    judge = BatchJudge(SETTINGS)
    one, two = pending_matches(judge, singles(1), tmp_path)
    errors = written(
        tmp_path / "errors.jsonl",
        [result(one, status=500), {"custom_id": two, "response": None, "error": {"code": "expired"}}],
    )
    done = judge_matches(BatchJudge(SETTINGS, results=[errors]), singles(1), tmp_path, max_failure_rate=1.0)
    assert done.num_failed == 2
    output = written(tmp_path / "output.jsonl", [result(one), result(two, reason="length")])
    late = BatchJudge(SETTINGS, results=[output, errors])
    done = judge_matches(late, singles(1), tmp_path, retry_failed=True, max_failure_rate=1.0)
    assert (done.num_ok, done.num_unscored, done.num_failed) == (1, 1, 0)


def test_another_file_is_refused_with_its_place(tmp_path):
    path = written(tmp_path / "in.jsonl", [{"custom_id": "x", "method": "POST"}])
    with pytest.raises(DataError, match=r"(?s)in.jsonl:1 is no result of a batch.*not its input"):
        BatchJudge(SETTINGS, results=[path])
    with pytest.raises(DataError, match="does not exist"):
        BatchJudge(SETTINGS, results=[tmp_path / "absent"])
