import pytest

from distill.data import Message
from distill.data.templates import render_prompt
from distill.decoding import LlamaCppGenerator, SamplingSettings, TransformersGenerator
from distill.decoding.endpoint import EndpointGenerator
from distill.decoding.endpoint_client import EndpointSettings
from distill.errors import EndpointError
from distill.export.gguf import write_gguf
from tests.endpoint_server import NAME, EndpointServer, serving, status

GREEDY = SamplingSettings(temperature=0.0, max_new_tokens=12)
DRAWN = SamplingSettings(temperature=0.9, max_new_tokens=6)


@pytest.fixture
def server(loaded):
    with serving(loaded) as server:
        yield server


def generator(server: EndpointServer, **changes: object) -> EndpointGenerator:
    settings = EndpointSettings.model_validate({"base_url": server.url, "model": NAME} | changes)
    return EndpointGenerator(settings, server.loaded.tokenizer)


@pytest.mark.parametrize("answers", ["completions", "chat"])
def test_greedy_answers_are_those_of_the_model_itself(server, loaded, prompts, answers: str):
    expected = TransformersGenerator(loaded).generate(prompts, GREEDY, seed=0)
    assert generator(server, answers=answers).generate(prompts, GREEDY, seed=0) == expected
    assert {answer.finish_reason for answer in expected} == {"stop", "length"}


def test_completions_send_the_ids_of_our_template_and_every_field_of_the_sampling(server, prompts):
    settings = SamplingSettings(temperature=0.7, top_p=0.9, top_k=40, max_new_tokens=3)
    generator(server).generate(prompts[:1], settings, seed=0)
    (sent,) = server.requests
    assert sent["prompt"] == render_prompt(server.loaded.tokenizer, prompts[0])
    assert sent.items() >= {"temperature": 0.7, "top_p": 0.9, "top_k": 40, "max_tokens": 3, "model": NAME}.items()
    assert sent["stop_token_ids"] == [server.loaded.tokenizer.eos_token_id]


def test_a_servers_own_defaults_are_switched_off(server, prompts):
    generator(server).generate(prompts[:1], GREEDY, seed=0)
    assert server.requests[0].items() >= {"top_k": -1, "min_p": 0.0, "repetition_penalty": 1.0}.items()


def test_chat_sends_the_messages(server, prompts):
    generator(server, answers="chat").generate(prompts[1:2], GREEDY, seed=0)
    assert server.requests[0]["messages"] == [message.to_json() for message in prompts[1]]
    assert "stop_token_ids" not in server.requests[0]


def test_an_answer_depends_on_its_prompt_and_the_seed_not_on_the_others(server, prompts):
    asking = generator(server, max_concurrent=3)
    together = asking.generate(prompts, DRAWN, seed=5)
    assert asking.generate(prompts[::-1], DRAWN, seed=5)[::-1] == together
    assert asking.generate(prompts[2:3], DRAWN, seed=5) == together[2:3]
    assert asking.generate(prompts, DRAWN, seed=6) != together


def test_a_prompt_asked_twice_gets_two_draws(server, prompts):
    generator(server).generate([prompts[0], prompts[0]], DRAWN, seed=0)
    first, second = (body["seed"] for body in server.requests)
    assert first != second
    assert 0 <= min(first, second) <= max(first, second) < 2**31


def test_passing_faults_change_no_answer(server, prompts):
    expected = generator(server).generate(prompts, GREEDY, seed=0)
    server.faults = [status(429), status(503), status(500)]
    assert generator(server).generate(prompts, GREEDY, seed=0) == expected


def test_an_end_that_a_server_leaves_in_the_text_is_cut(server):
    server.changed = lambda _: {"choices": [{"text": "yes<|end|><|user|>and", "finish_reason": "length"}]}
    (answer,) = generator(server).generate([[Message("user", "hi")]], GREEDY, seed=0)
    assert (answer.text, answer.finish_reason) == ("yes", "stop")


@pytest.mark.parametrize("reason", ["length", "content_filter", "abort", None])
def test_an_answer_that_did_not_stop_is_unfinished(server, reason: str | None):
    """Without usage, the answer's tokens are counted here: y, e, s."""
    server.changed = lambda _: {"choices": [{"text": "yes", "finish_reason": reason}]}
    (answer,) = generator(server).generate([[Message("user", "hi")]], GREEDY, seed=0)
    num_tokens = len(server.loaded.tokenizer.encode("yes", add_special_tokens=False))
    assert (answer.text, answer.num_tokens, answer.finish_reason) == ("yes", num_tokens, "length")


def test_a_chat_answer_without_content_is_empty(server):
    """A refusal or a call of a tool: the stages drop and count it."""
    server.changed = lambda _: {"choices": [{"message": {"content": None}, "finish_reason": "stop"}]}
    (answer,) = generator(server, answers="chat").generate([[Message("user", "hi")]], GREEDY, seed=0)
    assert (answer.text, answer.finish_reason) == ("", "stop")


@pytest.mark.parametrize(
    ("reply", "problem"),
    [
        ({}, "no choices"),
        ({"choices": []}, "no choices"),
        ({"choices": [3]}, "no choices"),
        ({"choices": [{}]}, "no text"),
    ],
)
def test_a_reply_without_an_answer_is_refused(server, reply: dict, problem: str):
    server.changed = lambda _: reply
    with pytest.raises(EndpointError, match=rf"(?s)reply to /completions that cannot be used.*{problem}"):
        generator(server).generate([[Message("user", "hi")]], GREEDY, seed=0)


@pytest.mark.parametrize("answers", ["completions", "chat"])
def test_a_server_of_another_make_answers_alike(folder, loaded, prompts, tmp_path, answers: str):
    """llama.cpp: it shows a character that the length limit cut as one or more of \ufffd, or holds it back."""
    write_gguf(folder, tmp_path / "model.gguf", file_type="f32")
    expected = TransformersGenerator(loaded).generate(prompts, GREEDY, seed=0)
    with LlamaCppGenerator(tmp_path / "model.gguf", num_threads=1, max_length_tokens=256) as llama:
        settings = EndpointSettings(base_url=llama.base_url, model="any", answers=answers, max_concurrent=2)
        found = EndpointGenerator(settings, loaded.tokenizer).generate(prompts, GREEDY, seed=0)
    assert [answer.text.rstrip("\ufffd") for answer in found] == [answer.text.rstrip("\ufffd") for answer in expected]
    assert [answer.finish_reason for answer in found] == [answer.finish_reason for answer in expected]
    assert [answer.num_tokens for answer in found] == [answer.num_tokens for answer in expected]


def test_no_prompts_ask_nothing(server):
    assert generator(server).generate([], GREEDY, seed=0) == []
    assert server.requests == []
