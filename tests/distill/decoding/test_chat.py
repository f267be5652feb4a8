import pytest
from fastapi.responses import JSONResponse

from distill.data import Message
from distill.decoding import ChatGenerator, SamplingSettings, ServerSettings
from distill.errors import EndpointError
from tests.endpoint_server import NAME, serving, status

SETTINGS = SamplingSettings(temperature=0.0, max_new_tokens=4)
PROMPTS = [[Message("user", "hello")], [Message("user", "a flat white")]]


@pytest.fixture
def server(loaded):
    with serving(loaded) as server:
        yield server


def generator(server) -> ChatGenerator:
    return ChatGenerator(ServerSettings(base_url=server.url, model=NAME, max_retries=0))


def test_answers_come_in_the_order_of_the_prompts(server):
    answers = generator(server).generate(PROMPTS, SETTINGS, seed=0)
    assert [answer.num_tokens for answer in answers] == [
        generator(server).generate([prompt], SETTINGS, seed=0)[0].num_tokens for prompt in PROMPTS
    ]
    assert {request["max_tokens"] for request in server.requests} == {4}


def test_a_server_that_wants_the_newer_cap_gets_it(server):
    reply = {"choices": [{"message": {"content": "good"}, "finish_reason": "stop"}]}
    server.faults = [status(400, "use max_completion_tokens"), JSONResponse(reply)]
    generator(server).generate(PROMPTS[:1], SETTINGS, seed=0)
    assert [("max_tokens" in r, "max_completion_tokens" in r) for r in server.requests] == [
        (True, False),
        (False, True),
    ]


@pytest.mark.parametrize("reply", [{}, {"choices": []}, {"choices": [{"message": {"content": 3}}]}])
def test_a_reply_without_an_answer_is_refused(server, reply):
    server.changed = lambda _: reply
    with pytest.raises(EndpointError, match="cannot be used"):
        generator(server).generate(PROMPTS[:1], SETTINGS, seed=0)
