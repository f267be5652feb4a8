import threading
import time

import pytest
from fastapi.responses import Response

from distill.decoding.endpoint_client import COMPLETIONS, EndpointClient, EndpointSettings, fault_of
from distill.errors import EndpointError, RecipeError
from distill.settings import validated
from tests.endpoint_server import NAME, EndpointServer, serving, status

BODY = {"prompt": [1, 2, 3], "max_tokens": 1, "temperature": 0.0}


@pytest.fixture
def server(loaded):
    with serving(loaded) as server:
        yield server


def client(server: EndpointServer, **changes: object) -> EndpointClient:
    return EndpointClient(EndpointSettings.model_validate({"base_url": server.url, "model": NAME} | changes))


@pytest.mark.parametrize("code", [429, 500, 503, 408])
def test_a_passing_fault_is_asked_again(server, code: int):
    server.faults = [status(code), status(code)]
    assert client(server).post(COMPLETIONS, BODY, neutral={})["choices"]
    assert len(server.requests) == 3


@pytest.mark.parametrize(
    ("code", "fix"), [(429, "max_concurrent"), (500, "server's log"), (401, "api_key_env"), (404, "base_url")]
)
def test_a_lasting_fault_is_told_with_what_helps(server, code: int, fix: str):
    server.faults = [status(code, "so it is")] * 5
    with pytest.raises(EndpointError, match=rf"(?s)answered /completions with status {code}.*so it is.*{fix}"):
        client(server, max_retries=1).post(COMPLETIONS, BODY, neutral={})


def test_a_fault_of_the_request_is_not_asked_again(server):
    server.faults = [status(400, "maximum context length is 8")]
    with pytest.raises(EndpointError, match=r"(?s)status 400.*maximum context length is 8"):
        client(server).post(COMPLETIONS, BODY, neutral={})
    assert len(server.requests) == 1


def test_a_slow_server_is_told(server):
    server.delay_s = 0.3
    with pytest.raises(EndpointError, match=r"(?s)did not answer /completions within 0.05 s.*asked 1 times.*timeout_s"):
        client(server, timeout_s=0.05, max_retries=0).post(COMPLETIONS, BODY, neutral={})


def test_an_absent_server_is_told():
    settings = EndpointSettings(base_url="http://127.0.0.1:9/v1", model=NAME, max_retries=0)
    with pytest.raises(EndpointError, match=r"(?s)127.0.0.1:9/v1 cannot be reached.*start it"):
        EndpointClient(settings).served_model()


@pytest.mark.parametrize(
    ("body", "problem"), [("<html>busy", "it is not JSON: '<html>busy'"), ("[1]", "no JSON object")]
)
@pytest.mark.parametrize("kind", ["application/json", "text/html"])
def test_a_reply_that_is_no_json_object_is_refused(server, body: str, problem: str, kind: str):
    server.faults = [Response(body, media_type=kind)]
    with pytest.raises(EndpointError, match=rf"(?s)reply to /completions that cannot be used.*{problem}"):
        client(server).post(COMPLETIONS, BODY, neutral={})


def test_a_neutral_field_that_is_refused_is_left_out_from_then_on(server):
    server.refused_fields = ("min_p", "top_k")
    asking = client(server)
    neutral = {"min_p": 0.0, "top_k": -1, "repetition_penalty": 1.0}
    for _ in range(2):
        assert asking.post(COMPLETIONS, BODY, neutral=neutral)["choices"]
    sent = [{name for name in neutral if name in body} for body in server.requests]
    assert sent == [set(neutral), {"top_k", "repetition_penalty"}, {"repetition_penalty"}, {"repetition_penalty"}]


def test_a_field_that_shapes_the_answer_is_never_left_out(server):
    server.refused_fields = ("top_k",)
    with pytest.raises(EndpointError, match=r"(?s)status 400.*top_k"):
        client(server).post(COMPLETIONS, BODY | {"top_k": 5}, neutral={"min_p": 0.0})


def test_the_weights_behind_the_name_are_told(server):
    assert client(server).served_model() == "owner/tiny-model"
    server.changed = lambda reply: {"data": [{"id": NAME}]}
    assert client(server).served_model() == NAME


@pytest.mark.parametrize("reply", [{}, {"data": []}, {"data": [{"id": "other"}, 3]}, {"data": {"id": NAME}}])
def test_a_server_without_the_model_is_refused(server, reply: dict):
    server.changed = lambda _: reply
    with pytest.raises(EndpointError, match=r"(?s)does not serve tiny.*it serves: (nothing|other)"):
        client(server).served_model()


def test_the_key_comes_from_the_environment(server, monkeypatch):
    monkeypatch.setenv("TINY_KEY", "s3cret")
    client(server, api_key_env="TINY_KEY").post(COMPLETIONS, BODY, neutral={})
    assert server.keys == ["Bearer s3cret"]
    monkeypatch.delenv("TINY_KEY")
    with pytest.raises(EndpointError, match=r"(?s)api_key_env is TINY_KEY, which is not set.*export TINY_KEY=KEY"):
        client(server, api_key_env="TINY_KEY")


@pytest.mark.parametrize("code", [401, 403])
def test_a_wrong_key_is_told_by_the_name_of_its_variable(server, monkeypatch, code: int):
    monkeypatch.setenv("TINY_KEY", "s3cret")
    server.faults = [status(code, "Incorrect API key")]
    with pytest.raises(
        EndpointError, match=rf"(?s)status {code}\nwhy: Incorrect API key\nfix: .*TINY_KEY=KEY"
    ) as caught:
        client(server, api_key_env="TINY_KEY").post(COMPLETIONS, BODY, neutral={})
    assert "s3cret" not in str(caught.value)


def test_answers_come_in_the_order_of_the_items_and_never_too_many_at_once(server):
    running, most, lock = 0, 0, threading.Lock()
    both = threading.Barrier(2)

    def ask(number: int) -> int:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        both.wait(5)
        with lock:
            running -= 1
        return -number

    assert client(server, max_concurrent=2).in_order(ask, range(6)) == [0, -1, -2, -3, -4, -5]
    assert most == 2


def test_the_first_error_ends_the_rest(server):
    asked = []

    def ask(number: int) -> int:
        asked.append(number)
        if number == 1:
            raise EndpointError("number one")
        time.sleep(0.005)
        return number

    with pytest.raises(EndpointError, match="number one"):
        client(server, max_concurrent=1).in_order(ask, range(1000))
    assert len(asked) < 1000


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"base_url": "localhost:8000"}, "base_url"),
        ({"base_url": "http://me:s3cret@host/v1"}, "base_url"),
        ({"model": ""}, "model"),
        ({"timeout_s": 0}, "timeout_s"),
        ({"max_concurrent": 0}, "max_concurrent"),
        ({"logprobs": "all"}, "logprobs"),
        ({"api_key": "x"}, r"did you mean api_key_env\?"),
    ],
)
def test_settings_are_checked(changes: dict, problem: str):
    values = {"base_url": "http://localhost:8000/v1", "model": "m"} | changes
    with pytest.raises(RecipeError, match=problem):
        validated(EndpointSettings, values, source="recipe")


@pytest.mark.parametrize(
    ("fault", "whose"),
    [
        (status(429), "passing"),
        (status(500), "passing"),
        (Response("<html>", media_type="text/html"), "passing"),
        (status(400), "of the request"),
        (status(422), "of the request"),
        (status(401), "lasting"),
        (status(404), "lasting"),
    ],
)
def test_an_error_tells_whose_fault_it_is(server, fault: Response, whose: str):
    server.faults = [fault]
    with pytest.raises(EndpointError) as caught:
        client(server, max_retries=0).post(COMPLETIONS, BODY, neutral={})
    assert fault_of(caught.value) == whose


def test_messages_name_the_section_that_the_settings_stand_in(server):
    server.faults = [status(404)]
    asking = EndpointClient(EndpointSettings(base_url=server.url, model=NAME), section="judge.endpoint")
    with pytest.raises(EndpointError, match=r"check judge\.endpoint\.base_url .* and judge\.endpoint\.model"):
        asking.post(COMPLETIONS, BODY, neutral={})
