from dataclasses import replace

import pytest

from eval.judges.base import call_key
from eval.mt_bench.matches import single_matches
from tests.judge_cases import PROMPTS, ScriptedJudge, answer, judging, pairs, question, singles

JUDGE = ScriptedJudge("x")
MATCH = singles(1)[0]


def test_the_same_call_has_the_same_key():
    assert call_key(ScriptedJudge("y"), singles(1)[0]) == call_key(JUDGE, MATCH)


@pytest.mark.parametrize(
    "changes",
    [
        {"turn": 2},
        {"models": ("other",)},
        {"answers": (answer(1, "m", "another", "m 1.2"),)},
        {"prompt": replace(PROMPTS["own"], system_prompt="Be harsh.")},
        {"question": replace(question(1), turns=("ask differently", "ask 1.2"))},
        {"question": question(3)},
        {"reference_set": "vetted"},
        {"repeat": 1},
    ],
)
def test_whatever_decides_a_verdict_is_in_the_key(changes: dict):
    if changes.get("turn") == 2:
        changes = changes | {"prompt": PROMPTS["own-turns"]}
    assert call_key(JUDGE, replace(MATCH, **changes)) != call_key(JUDGE, MATCH)


def test_the_judges_identity_is_in_the_key():
    other = ScriptedJudge("x")
    other.identity = {"kind": "script", "temperature": 1}
    assert call_key(other, MATCH) != call_key(JUDGE, MATCH)


def test_both_orders_of_the_same_two_answers_have_keys_of_their_own():
    same = {"a": {1: answer(1, "a", "x", "y")}, "b": {1: answer(1, "b", "x", "y")}}
    assert len({call_key(JUDGE, match) for match in pairs(1)}) == 4
    assert (
        len({call_key(JUDGE, m) for m in single_matches(judging("single", num_questions=1, answers=same)).judged}) == 4
    )
