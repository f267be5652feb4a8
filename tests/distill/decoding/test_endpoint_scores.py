import math

import pytest
import torch

from distill.data import TokenizedSequence
from distill.decoding.endpoint_client import EndpointSettings
from distill.decoding.endpoint_scores import EndpointScorer
from distill.decoding.llama_cpp import LlamaCppGenerator
from distill.errors import EndpointError
from distill.export.gguf import write_gguf
from tests.endpoint_server import NAME, EndpointServer, serving, status

SEQUENCES = [
    TokenizedSequence((7, 120, 33), (250, 14, 3)),
    TokenizedSequence((61,), (62, 63, 200, 201, 3)),
    TokenizedSequence((7, 120, 33, 40), (88,)),
]


@pytest.fixture
def server(loaded):
    with serving(loaded) as server:
        yield server


def scorer(server: EndpointServer, **changes: object) -> EndpointScorer:
    settings = EndpointSettings.model_validate({"base_url": server.url, "model": NAME} | changes)
    return EndpointScorer(settings, server.loaded.tokenizer, vocab_size=len(server.loaded.tokenizer))


def local(server: EndpointServer, sequence: TokenizedSequence) -> torch.Tensor:
    """The distributions that predict the completion's tokens."""
    ids = [*sequence.prompt_ids, *sequence.completion_ids]
    return server.log_probs(ids)[len(sequence.prompt_ids) - 1 : -1]


@pytest.mark.parametrize("logprobs", ["echo", "prompt_logprobs"])
@pytest.mark.parametrize("names_ids", [True, False])
def test_scores_are_those_of_the_model(server, logprobs: str, names_ids: bool):
    server.names_ids = names_ids
    k = 0 if logprobs == "echo" and not names_ids else 5
    found = scorer(server, logprobs=logprobs).score(SEQUENCES, k=k)
    for sequence, scores in zip(SEQUENCES, found, strict=True):
        expected = local(server, sequence)
        own = expected.gather(-1, torch.tensor(sequence.completion_ids).unsqueeze(-1)).squeeze(-1)
        torch.testing.assert_close(scores.token_log_probs, own, atol=1e-4, rtol=0)
        values, ids = expected.topk(k)
        assert scores.top_ids.tolist() == ids.tolist()
        torch.testing.assert_close(scores.top_log_probs, values, atol=1e-4, rtol=0)


def test_scores_stand_in_the_order_of_the_sequences(server):
    asking = scorer(server, max_concurrent=3)
    forward, backward = asking.score(SEQUENCES, k=2), asking.score(SEQUENCES[::-1], k=2)
    for one, other in zip(forward, backward[::-1], strict=True):
        assert torch.equal(one.token_log_probs, other.token_log_probs)
        assert torch.equal(one.top_ids, other.top_ids)


def test_the_whole_sequence_is_sent_as_ids(server):
    scorer(server).score(SEQUENCES[:1], k=0)
    assert server.requests[0]["prompt"] == [7, 120, 33, 250, 14, 3]


def test_passing_faults_change_nothing(server):
    server.faults = [status(429), status(500)]
    assert len(scorer(server, max_concurrent=1).score(SEQUENCES, k=3)) == 3


def test_a_server_without_log_probs_is_refused(server):
    def without(reply: dict) -> dict:
        reply["choices"][0]["logprobs"] = None
        return reply

    server.changed = without
    with pytest.raises(EndpointError, match=r"(?s)reply to /completions that cannot be used.*no log-probs.*vLLM"):
        scorer(server).score(SEQUENCES, k=3)


def test_a_server_that_lists_too_few_is_refused(server):
    def fewer(reply: dict) -> dict:
        rows = reply["choices"][0]["logprobs"]["top_logprobs"]
        reply["choices"][0]["logprobs"]["top_logprobs"] = [row and dict(list(row.items())[:2]) for row in rows]
        return reply

    server.changed = fewer
    with pytest.raises(EndpointError, match=r"(?s)lists 2 tokens.*3 were asked for.*--max-logprobs"):
        scorer(server).score(SEQUENCES, k=3)


def test_a_server_with_a_token_in_front_is_refused(server):
    """What a server does that adds a beginning-of-sequence token of its own."""

    def shifted(reply: dict) -> dict:
        found = reply["choices"][0]["logprobs"]
        for name, first in (("tokens", "token_id:0"), ("token_logprobs", None), ("top_logprobs", None)):
            found[name] = [first, *found[name][:-1]]
        del reply["choices"][0]["prompt_token_ids"]
        return reply

    server.changed = shifted
    with pytest.raises(EndpointError, match=r"(?s)sequence [0-9a-f]{12}: token 0 is 'token_id:0' to.*in front"):
        scorer(server).score(SEQUENCES, k=3)


def test_numbers_that_are_no_log_probs_are_refused(server):
    def spoiled(reply: dict) -> dict:
        reply["choices"][0]["logprobs"]["token_logprobs"][-2] = 2.0
        return reply

    server.changed = spoiled
    with pytest.raises(EndpointError, match=r"(?s)log-prob of token 5 is 2.0, which is no finite number at most 0"):
        scorer(server).score(SEQUENCES[:1], k=0)


def test_lists_by_text_that_name_no_one_token_are_refused(server):
    server.names_ids = False
    with pytest.raises(EndpointError, match=r"(?s)names no token or more than one of ours.*tier scores alone"):
        scorer(server).score(SEQUENCES, k=len(server.loaded.tokenizer))


def test_a_server_that_knows_no_echo_is_refused(folder, loaded, tmp_path):
    """llama.cpp gives log-probs of what it generates, and leaves out those of the prompt without a word."""
    write_gguf(folder, tmp_path / "model.gguf", file_type="f32")
    with LlamaCppGenerator(tmp_path / "model.gguf", num_threads=1, max_length_tokens=256) as llama:
        settings = EndpointSettings(base_url=llama.base_url, model="any")
        scoring = EndpointScorer(settings, loaded.tokenizer, vocab_size=len(loaded.tokenizer))
        with pytest.raises(EndpointError, match=r"(?s)cannot be used.*no log-probs.*vLLM"):
            scoring.score(SEQUENCES, k=2)


def test_a_strict_server_is_asked_without_the_fields_it_refuses(server):
    server.names_ids, server.refused_fields = False, ("return_tokens_as_token_ids", "return_token_ids")
    found = scorer(server, max_concurrent=1).score(SEQUENCES, k=0)
    assert math.isclose(float(found[2].token_log_probs[0]), float(local(server, SEQUENCES[2])[0, 88]), abs_tol=1e-4)
