import json

from distill.files import sha256_of_file
from eval.judges.base import JudgeReply
from eval.mt_bench.judging import judge_matches
from eval.mt_bench.matches import single_matches
from tests.judge_cases import ScriptedJudge, judging

REPLY = JudgeReply("Rating: [[7]]", "stop", None, "judge-2024", "fp_1", 50, 10, left_out=("seed",))


def test_the_side_file_tells_who_judged_what_and_how(tmp_path):
    given = judging("single", references={1: ("r", "s")}, reference_set="vetted")
    other = JudgeReply("hm", "length", None, "judge-2025", None)
    done = judge_matches(
        ScriptedJudge(REPLY, REPLY, REPLY, JudgeReply("", error="gone"), other),
        single_matches(given).judged,
        tmp_path,
        repeats=2,
        max_failure_rate=1.0,
        provenance={"sha256": {"questions": "abc"}},
    )
    meta = json.loads(done.meta.read_text())
    assert (meta["format"], meta["version"], meta["repeats"]) == ("distill-judging", 1, 2)
    assert meta["judge"]["identity"] == {"kind": "script"}
    assert meta["reference_set"] == "vetted"
    assert set(meta["prompts"]) == {"own", "own-reference", "own-turns", "own-reference-turns"}
    assert meta["inputs"] == {"sha256": {"questions": "abc"}}
    assert meta["judgments_sha256"] == sha256_of_file(done.judgments)
    assert meta["served_models"] == {"judge-2024": 3, "judge-2025": 4}
    assert meta["system_fingerprints"] == {"fp_1": 3, "not told": 4}
    assert meta["request_fields_left_out"] == ["seed"]
    assert meta["calls"] == {"asked_for": 8, "done": 7, "failed": 1, "missing": 0, "in_the_file": 7}
    assert meta["rules"] == {"cut_off": 4, "last_double_bracket": 3}
    assert (meta["num_prompt_tokens"], meta["num_completion_tokens"], meta["num_calls_without_usage"]) == (150, 30, 4)
    assert {"distill", "python", "openai"} <= meta["versions"].keys()
