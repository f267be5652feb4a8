from dataclasses import replace

import pytest

from distill.errors import RecipeError
from distill.settings import validated
from eval.judges.chat_request import ChatJudgeSettings, chat_body, reply_from, sampling_body
from tests.judge_cases import singles

SETTINGS = ChatJudgeSettings(base_url="http://host/v1", model="j")
MATCH = singles(1)[0]


def test_a_system_message_is_merged_where_templates_have_none():
    merged = chat_body(SETTINGS.model_copy(update={"merges_system": True}), MATCH)
    assert merged["messages"] == [{"role": "user", "content": "Be fair.\n\nQ ask 1.1 A m 1.1"}]


def test_repeats_have_seeds_of_their_own():
    assert [sampling_body(SETTINGS, replace(MATCH, repeat=number))["seed"] for number in (0, 1, 2)] == [0, 1, 2]
    assert "seed" not in sampling_body(SETTINGS.model_copy(update={"seed": None}), MATCH)


@pytest.mark.parametrize(
    "body",
    [{}, {"choices": []}, {"choices": "x"}, {"choices": [3]}, {"choices": [{}]}, {"choices": [{"message": "hi"}]}],
)
def test_an_object_without_a_message_is_a_failed_call(body: dict):
    assert "no choices[0].message" in (reply_from(body).error or "")


def test_content_that_is_no_text_is_a_failed_call():
    assert "text was expected" in (reply_from({"choices": [{"message": {"content": [1]}}]}).error or "")


def test_a_message_without_content_is_an_empty_reply():
    reply = reply_from({"choices": [{"message": {"content": None}, "finish_reason": "length"}]})
    assert (reply.text, reply.error, reply.finish_reason) == ("", None, "length")


def test_counts_that_are_none_are_not_told():
    body = {"choices": [{"message": {"content": "x"}}], "usage": {"prompt_tokens": "9", "completion_tokens": -1}}
    assert (reply_from(body).num_prompt_tokens, reply_from(body).num_completion_tokens) == (None, None)
    assert reply_from({**body, "usage": None}).text == "x"


def test_only_what_decides_the_words_is_the_sampling():
    patient = SETTINGS.model_copy(update={"max_concurrent": 1, "timeout_s": 1.0, "requests_per_minute": 3.0})
    assert patient.sampling == SETTINGS.sampling
    assert SETTINGS.model_copy(update={"max_tokens": 7}).sampling != SETTINGS.sampling


@pytest.mark.parametrize(
    "changes", [{"temperature": -1}, {"max_tokens": 0}, {"answers": "chat"}, {"requests_per_minute": 0}]
)
def test_settings_are_checked(changes: dict):
    with pytest.raises(RecipeError, match=next(iter(changes))):
        validated(ChatJudgeSettings, {"base_url": "http://host/v1", "model": "j"} | changes, source="judge")
