import pytest
import torch

from distill.decoding import EndpointScores, EndpointSettings
from distill.errors import CacheError, EndpointError
from distill.teacher_cache import (
    CacheSettings,
    EndpointTeacher,
    HeadShape,
    TeacherCache,
    TierSettings,
    make_codec,
    score_sequences,
    verify,
)
from distill.teacher_cache.codecs import decode_top_k
from distill.teacher_cache.endpoint import scored_rows
from tests.endpoint_server import NAME, EndpointServer, serving, status

TIERS = ("scores", TierSettings(codec="top-k", k=5))
SHAPE = HeadShape(vocab_size=280, hidden_size=0)


@pytest.fixture
def server(teacher):
    with serving(teacher) as server:
        yield server


def behind(server: EndpointServer, **changes: object) -> EndpointTeacher:
    settings = EndpointSettings.model_validate({"base_url": server.url, "model": NAME} | changes)
    return EndpointTeacher(settings, server.loaded.tokenizer)


@pytest.mark.parametrize("logprobs", ["echo", "prompt_logprobs"])
def test_a_cache_from_a_server_is_that_of_the_model_itself(
    server, teacher, sequences, small_shards, tmp_path, logprobs: str
):
    """Token log-probs to 1e-4; lists to the float16 they are stored in; the tail to 1e-5."""
    caches: list[TeacherCache] = []
    for name, source in (("here", teacher), ("server", behind(server, logprobs=logprobs))):
        settings = small_shards(codec=TIERS)
        made = score_sequences(
            source, sequences, settings=settings, output_dir=tmp_path / name, data_fingerprint="data"
        )
        caches.append(made)
    here, there = caches
    ids = sorted(here.sequence_ids)
    assert sorted(there.sequence_ids) == ids
    torch.testing.assert_close(there.token_log_probs(ids), here.token_log_probs(ids), atol=1e-4, rtol=0)
    ours, theirs = here.top_k(ids), there.top_k(ids)
    assert torch.equal(ours.token_ids, theirs.token_ids)
    torch.testing.assert_close(theirs.log_probs, ours.log_probs, atol=4e-3, rtol=0)
    torch.testing.assert_close(theirs.tail_mass, ours.tail_mass, atol=1e-5, rtol=0)
    assert not theirs.log_normaliser.any()
    assert here.manifest.teacher_fingerprint != there.manifest.teacher_fingerprint


def test_a_run_that_is_cut_off_goes_on_at_its_shard(server, sequences, small_shards, tmp_path):
    settings = small_shards(codec="scores")
    arguments = {"settings": settings, "output_dir": tmp_path, "data_fingerprint": "data"}
    server.faults = [*[status(429)] * 2, status(400, "gone")]
    with pytest.raises(EndpointError, match="gone"):
        score_sequences(behind(server, max_concurrent=1), sequences, **arguments)
    score_sequences(behind(server), sequences, **arguments)
    verify(tmp_path)
    num_asked = len(server.requests)
    score_sequences(behind(server), sequences, **arguments)
    assert len(server.requests) == num_asked


def test_the_identity_is_the_models_not_the_servers(server, teacher):
    with serving(teacher) as other:
        assert behind(server).identity == behind(other).identity
        other.changed = lambda _: {"data": [{"id": NAME, "root": "owner/another"}]}
        assert behind(server).identity.fingerprint != behind(other).identity.fingerprint


def test_a_padded_vocabulary_is_as_wide_as_the_head(server):
    settings = EndpointSettings(base_url=server.url, model=NAME)
    assert EndpointTeacher(settings, server.loaded.tokenizer, vocab_size=320).identity.shape.vocab_size == 320
    assert EndpointTeacher(settings, server.loaded.tokenizer, vocab_size=9).identity.shape.vocab_size == 280


@pytest.mark.parametrize("codec", ["logits-bf16", "sampled"])
def test_a_tier_of_whole_distributions_is_refused(server, sequences, small_shards, tmp_path, codec: str):
    with pytest.raises(CacheError, match=rf"(?s)asks for {codec}.*behind a server.*cache.codec=\[scores,top-k\]"):
        score_sequences(
            behind(server),
            sequences,
            settings=small_shards(codec=("scores", codec)),
            output_dir=tmp_path,
            data_fingerprint="data",
        )


def test_a_tier_of_hidden_states_is_refused_before_anything_is_written(server, sequences, tmp_path):
    with pytest.raises(CacheError, match=r"asks for exact"):
        score_sequences(
            behind(server),
            sequences,
            settings=CacheSettings(max_length_tokens=32),
            output_dir=tmp_path / "cache",
            data_fingerprint="data",
        )
    assert not (tmp_path / "cache").exists()


def scores() -> EndpointScores:
    """Probabilities 1/2 and 1/4 listed, and a quarter in the tail; then 1/4 and 1/8, and five eighths."""
    listed = torch.tensor([[0.5, 0.25], [0.25, 0.125]]).log()
    return EndpointScores(torch.tensor([-0.5, -1.5]), torch.tensor([[3, 1], [279, 0]]), listed)


def test_rows_known_answer():
    codecs = [make_codec(TierSettings(codec="scores"), SHAPE), make_codec(TierSettings(codec="top-k", k=2), SHAPE)]
    own, lists = scored_rows([scores(), scores()], codecs)
    assert codecs[0].token_log_probs(own, torch.zeros(4).long(), head=None).tolist() == [-0.5, -1.5] * 2
    found = decode_top_k(codecs[1], lists)
    assert found.token_ids.tolist() == [[3, 1], [279, 0]] * 2
    torch.testing.assert_close(found.tail_mass, torch.tensor([0.25, 0.625] * 2))
    assert found.log_normaliser.tolist() == [0.0] * 4


def test_a_shorter_list_is_the_front_of_a_longer_one():
    codec = make_codec(TierSettings(codec="top-k", k=1), SHAPE)
    (rows,) = scored_rows([scores()], [codec])
    found = decode_top_k(codec, rows)
    assert found.token_ids.tolist() == [[3], [279]]
    torch.testing.assert_close(found.tail_mass, torch.tensor([0.5, 0.75]))


def test_rows_that_a_reader_would_refuse_are_not_stored():
    spoiled = EndpointScores(torch.tensor([-0.5, float("nan")]), scores().top_ids, scores().top_log_probs)
    with pytest.raises(CacheError, match=r"(?s)cannot be stored as tier scores: the log-prob of token 1 is nan"):
        scored_rows([spoiled], [make_codec(TierSettings(codec="scores"), SHAPE)])
