import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distill.decoding.endpoint_replies import from_echo, from_prompt_log_probs, likeliest
from distill.decoding.endpoint_tokens import TokenNames
from distill.errors import EndpointError

IDS = [7, 8, 9]


@pytest.fixture(scope="module")
def names(loaded) -> TokenNames:
    return TokenNames(loaded.tokenizer)


def echo(**changes: object) -> dict:
    """Tokens 7, 8, 9 and a generated 5; 9 follows with e^-2, the likeliest there is 3 with e^-1."""
    found = {
        "tokens": [f"token_id:{token}" for token in [*IDS, 5]],
        "token_logprobs": [None, -0.5, -2.0, -0.1],
        "top_logprobs": [
            None,
            {"token_id:8": -0.5},
            {"token_id:9": -2.0, "token_id:3": -1.0},
            {"token_id:5": -0.1},
        ],
    }
    return {"choices": [{"text": "x", "logprobs": found | changes}]}


def tokens(*ids: int) -> dict:
    """An echo of other tokens."""
    rest = len(ids) - 1
    return {
        "tokens": [f"token_id:{token}" for token in ids],
        "token_logprobs": [None, *[-1.0] * rest],
        "top_logprobs": [None, *[{"token_id:1": -1.0}] * rest],
    }


def prompt_log_probs(rows: list | None = None) -> dict:
    given = [None, {"8": {"logprob": -0.5}}, {"9": {"logprob": -2.0}, "3": {"logprob": -1.0, "rank": 1}}]
    return {"choices": [{"text": "x", "prompt_logprobs": given if rows is None else rows}]}


def read_echo(reply: dict, names: TokenNames, *, start: int = 1, has_lists: bool = True):
    return from_echo(reply, IDS, start=start, names=names, has_lists=has_lists)


def read_rows(reply: dict, names: TokenNames, *, start: int = 1):
    return from_prompt_log_probs(reply, IDS, start=start, names=names, has_lists=True)


def test_both_forms_say_the_same(names):
    for found in (read_echo(echo(), names), read_rows(prompt_log_probs(), names)):
        assert [position.log_prob for position in found] == [-0.5, -2.0]
        assert [position.listed for position in found] == [{8: -0.5}, {9: -2.0, 3: -1.0}]


def test_only_positions_from_the_start_on_are_read(names):
    spoiled = echo(token_logprobs=[None, "?", -2.0, -0.1])
    assert [position.log_prob for position in read_echo(spoiled, names, start=2)] == [-2.0]
    assert len(read_rows(prompt_log_probs([None, "?", {"9": -2.0}]), names, start=2)) == 1


def test_a_server_that_generates_nothing_is_read_alike(names):
    found = {name: rows[:3] for name, rows in echo()["choices"][0]["logprobs"].items()}
    assert read_echo(echo(**found), names) == read_echo(echo(), names)


def test_lists_are_not_looked_at_where_they_are_not_wanted(names):
    for listed in (None, [None, {"�": -0.5}, {}, {}]):
        assert [p.listed for p in read_echo(echo(top_logprobs=listed), names, has_lists=False)] == [{}, {}]


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"tokens": None}, "no log-probs of tokens"),
        ({"token_logprobs": [None]}, "no log-probs of tokens"),
        (tokens(5), "of 1 tokens, and 3 were sent: the server knows no echo"),
        (tokens(1, 7, 8, 9), "token 0 is 'token_id:1' to the server"),
        (tokens(7, 8, 6, 5), r"\(id 9\) was sent"),
        (tokens(7, 8, 9, 5, 5), "5 tokens, and 3 were sent and one generated"),
        ({"token_logprobs": [None, None, -2.0, -0.1]}, "log-prob of token 1 is None"),
        ({"token_logprobs": [None, True, -2.0, -0.1]}, "log-prob of token 1 is True"),
        ({"token_logprobs": [None, math.nan, -2.0, -0.1]}, "token 1 is nan, which is no finite number"),
        ({"token_logprobs": [None, -math.inf, -2.0, -0.1]}, "token 1 is -inf"),
        ({"token_logprobs": [None, 0.5, -2.0, -0.1]}, "token 1 is 0.5, which is no finite number at most 0"),
        ({"top_logprobs": None}, "lists no likeliest tokens"),
        ({"top_logprobs": [None, {"�": -0.5}, {}, {}]}, "names no token or more than one"),
        ({"top_logprobs": [None, [1], {}, {}]}, "lists at token 1 is no mapping"),
        ({"top_logprobs": [None, {"token_id:8": "x"}, {}, {}]}, "log-prob of token 1 is 'x'"),
    ],
)
def test_an_echo_of_something_else_is_refused(names, changes: dict, problem: str):
    with pytest.raises(EndpointError, match=problem):
        read_echo(echo(**changes), names)


@pytest.mark.parametrize(
    ("rows", "problem"),
    [
        ("?", "holds no prompt_logprobs"),
        ([None, {"8": -0.5}], "scores 2 tokens, and 3 were sent"),
        ([None, {"7": -0.5}, {"9": -1.0}], r"says nothing of token 1, .*\(id 8\)"),
        ([None, None, {"9": -1.0}], "no mapping of token ids"),
        ([None, {"tea": -0.5}, {"9": -1.0}], "no mapping of token ids"),
        ([None, {"8": {}}, {"9": -1.0}], "log-prob of token 1 is None"),
    ],
)
def test_prompt_log_probs_of_something_else_are_refused(names, rows: object, problem: str):
    with pytest.raises(EndpointError, match=problem):
        read_rows({"choices": [{"prompt_logprobs": rows}]}, names)


@pytest.mark.parametrize("reply", [{}, {"choices": []}, {"choices": "x"}, {"choices": [1]}, {"choices": [{}, {}]}])
def test_a_reply_needs_one_choice(names, reply: dict):
    with pytest.raises(EndpointError, match="one choice"):
        read_echo(reply, names)


@pytest.mark.parametrize("read", [read_echo, read_rows])
def test_a_reply_without_log_probs_says_who_gives_them(names, read):
    with pytest.raises(EndpointError) as refusal:
        read({"choices": [{"text": "x", "logprobs": None}]}, names)
    assert "vLLM" in refusal.value.fix


@pytest.mark.parametrize(("read", "reply"), [(read_echo, echo()), (read_rows, prompt_log_probs())])
def test_a_server_that_read_other_ids_is_refused(names, read, reply):
    reply["choices"][0]["prompt_token_ids"] = IDS
    assert len(read(reply, names)) == 2
    reply["choices"][0]["prompt_token_ids"] = [1, *IDS]
    with pytest.raises(EndpointError, match="read other token ids"):
        read(reply, names)


def test_the_likeliest_come_first_and_of_equals_the_lower_id():
    assert likeliest({4: -3.0, 9: -1.0, 2: -1.0, 7: -2.0}, k=3, vocab_size=10) == [(2, -1.0), (9, -1.0), (7, -2.0)]


@pytest.mark.parametrize(
    ("listed", "problem"),
    [
        ({1: -1.0}, "lists 1 tokens at a position, and 2 were asked for"),
        ({1: -1.0, 10: -2.0}, "lists token id 10, and the vocabulary has 10"),
        ({1: -0.1, 2: -0.1}, "sum to 1.810"),
    ],
)
def test_lists_that_are_no_part_of_a_distribution_are_refused(listed: dict, problem: str):
    with pytest.raises(EndpointError, match=problem):
        likeliest(listed, k=2, vocab_size=10)


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(max_size=3) | st.sampled_from(["token_id:7", "token_id:8"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=2), inner, max_size=3),
    max_leaves=8,
)


@given(found=JSON, rows=JSON, ids=JSON)
def test_no_reply_breaks_the_reading(names, found, rows, ids):
    """Whatever a server sends is read or refused, and nothing else happens."""
    reply = {"choices": [{"logprobs": found, "prompt_logprobs": rows, "prompt_token_ids": ids}]}
    for read in (read_echo, read_rows):
        with pytest.raises(EndpointError):
            read(reply, names)


@given(tokens=JSON, own=JSON, listed=JSON)
def test_no_echo_breaks_the_reading(names, tokens, own, listed):
    with pytest.raises(EndpointError):
        read_echo(echo(tokens=tokens, token_logprobs=own, top_logprobs=listed), names)
