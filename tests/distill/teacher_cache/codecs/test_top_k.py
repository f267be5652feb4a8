import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from distill.errors import CacheError
from distill.objectives.output_head import OutputHead
from distill.teacher_cache.codecs import EncodedRows, HeadShape, TierSettings, TopK, decode_top_k, make_codec
from distill.teacher_cache.codecs.top_k import top_k
from tests.distill.teacher_cache.codecs.examples import codec_for, encoded, some_head, some_states


def test_sixty_four_of_qwens_tokens_take_280_bytes():
    assert make_codec(TierSettings(codec="top-k", k=64), HeadShape(151_936, 1024)).row_bytes == 280


@given(seed=st.integers(0, 1000), vocab_size=st.integers(5, 900), k=st.integers(1, 5), grid=st.booleans())
def test_the_fast_search_finds_the_largest(seed, vocab_size, k, grid):
    """Coarse grids give many equal numbers: any of them may be listed, so the values are compared."""
    logits = torch.randn(3, vocab_size, generator=torch.Generator().manual_seed(seed))
    logits = logits.round() if grid else logits
    values, places = top_k(logits, k)
    assert torch.equal(values, logits.topk(k).values)
    assert torch.equal(logits.gather(1, places), values)
    assert all(len(set(row)) == k for row in places.tolist())


def test_the_largest_are_found_where_they_lie_in_one_block_and_in_the_rest():
    logits = torch.zeros(1, 40 * 32 + 5)
    largest = torch.tensor([7, 47, 87, 40 * 32 + 4])
    logits[0, largest] = torch.tensor([4.0, 3.0, 2.0, 5.0])
    assert top_k(logits, 4)[1].tolist() == [[40 * 32 + 4, 7, 47, 87]]


@given(seed=st.integers(0, 1000), scale=st.sampled_from([0.1, 1.0, 6.0]))
def test_lists_hold_the_true_log_probs_normaliser_and_tail(seed, scale):
    """Log-probs to 2^-11 of themselves, the tail mass to 1e-6 of what a float64 sum of the others is."""
    head, states = some_head(vocab_size=700, seed=seed, scale=scale), some_states(3, seed=seed)
    codec = codec_for(head, codec="top-k", k=6)
    lists = decode_top_k(codec, encoded(codec, states, head))
    logits = head.logits(states).double()
    true = logits.log_softmax(-1)
    torch.testing.assert_close(lists.log_probs.double(), true.gather(1, lists.token_ids), rtol=2**-11, atol=2e-6)
    torch.testing.assert_close(true.gather(1, lists.token_ids), true.topk(6).values)
    torch.testing.assert_close(lists.log_normaliser.double(), logits.logsumexp(-1), rtol=1e-6, atol=2e-6)
    others = true.exp().scatter(1, lists.token_ids, 0.0).sum(-1)
    torch.testing.assert_close(lists.tail_mass.double(), others, rtol=1e-5, atol=1e-6)


def test_the_tail_of_qwens_vocabulary_is_exact_to_a_millionth():
    """Logits of spread 1 leave nearly all mass to 151,872 small numbers, logits of spread 5 far less."""
    head, states = some_head(vocab_size=151_936, hidden_size=8), some_states(4, hidden_size=8)
    for scale in (1 / 3, 5 / 3):
        scaled = OutputHead(head.weight, logit_scale=scale)
        codec = codec_for(scaled, codec="top-k")
        lists = decode_top_k(codec, encoded(codec, states, scaled))
        true = scaled.logits(states).double().softmax(-1)
        others = true.scatter(1, lists.token_ids, 0.0).sum(-1)
        torch.testing.assert_close(lists.tail_mass.double(), others, rtol=0, atol=1e-6)


def test_known_list():
    """Logits ln 5, ln 3, ln 1, ln 1: probabilities 1/2, 3/10, 1/10, 1/10; of two listed the tail is 2/10."""
    head = OutputHead(torch.tensor([[1.0], [3.0], [5.0], [1.0]]).log())
    codec = codec_for(head, codec="top-k", k=2)
    lists = decode_top_k(codec, encoded(codec, torch.ones(1, 1), head))
    assert lists.token_ids.tolist() == [[2, 1]]
    torch.testing.assert_close(lists.log_probs.exp(), torch.tensor([[0.5, 0.3]]), rtol=1e-3, atol=0)
    torch.testing.assert_close(lists.tail_mass, torch.tensor([0.2]))
    torch.testing.assert_close(lists.log_normaliser.exp(), torch.tensor([10.0]))


def test_lists_are_not_renormalised():
    head = some_head()
    codec = codec_for(head, codec="top-k", k=3)
    lists = decode_top_k(codec, encoded(codec, some_states(8), head))
    torch.testing.assert_close(lists.log_probs.exp().sum(-1) + lists.tail_mass, torch.ones(8), rtol=0, atol=2e-3)
    assert bool((lists.log_probs.exp().sum(-1) < 0.99).any())


def test_tokens_far_from_the_likeliest_stay_finite():
    """A log-prob of -2e5 lies beyond float16; it is stored as the lowest number there is."""
    head = OutputHead(torch.tensor([[0.0], [-2e5]]))
    codec = codec_for(head, codec="top-k", k=2)
    rows = encoded(codec, torch.ones(1, 1), head)
    assert codec.check(rows) is None
    assert decode_top_k(codec, rows).log_probs.tolist() == [[0.0, -65504.0]]


def test_a_listed_target_has_its_log_prob_and_another_is_refused():
    head, states = some_head(), some_states(4)
    codec = codec_for(head, codec="top-k", k=3)
    rows = encoded(codec, states, head)
    true = head.logits(states).log_softmax(-1)
    torch.testing.assert_close(
        codec.token_log_probs(rows, true.argmax(-1), head=None), true.amax(-1), rtol=1e-3, atol=1e-5
    )
    with pytest.raises(CacheError, match=r"token 0 of 4 is not among the 3 likeliest(.|\n)*top-k,scores"):
        codec.token_log_probs(rows, true.argmin(-1), head=None)


def test_rows_of_lists_undo_decoding():
    head = some_head()
    codec = codec_for(head, codec="top-k", k=5)
    rows = encoded(codec, some_states(4), head)
    assert torch.equal(codec.rows_of(decode_top_k(codec, rows)).records, rows.records)


def test_more_tokens_than_the_vocabulary_has_are_refused():
    with pytest.raises(CacheError, match=r"k is 64 and the teacher's vocabulary 40(.|\n)*at most 40"):
        codec_for(some_head(vocab_size=40), codec="top-k")


def test_a_vocabulary_beyond_packed_ids_is_refused_for_the_vocabulary():
    with pytest.raises(CacheError, match=r"vocabulary is 16777217(.|\n)*cache.codec=exact"):
        make_codec(TierSettings(codec="top-k"), HeadShape(2**24 + 1, 8))


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"token_ids": [[3, 255]]}, "outside the vocabulary"),
        ({"token_ids": [[3, 3]]}, "twice"),
        ({"log_probs": [[-1.0, float("nan")]]}, "no finite number at most 0"),
        ({"log_probs": [[-2.0, -1.0]]}, "not sorted"),
        ({"tail_mass": [1.5]}, "tail mass outside 0 to 1"),
        ({"tail_mass": [float("nan")]}, "tail mass outside 0 to 1"),
        ({"log_normaliser": [float("inf")]}, "normaliser that is not finite"),
    ],
)
def test_a_list_that_cannot_be_is_named(change, problem):
    good = {"token_ids": [[3, 4]], "log_probs": [[-1.0, -2.0]], "tail_mass": [0.4], "log_normaliser": [2.0]}
    codec = codec_for(some_head(), codec="top-k", k=2)
    rows: EncodedRows = codec.rows_of(TopK(**{key: torch.tensor(value) for key, value in (good | change).items()}))
    assert problem in codec.check(rows)
