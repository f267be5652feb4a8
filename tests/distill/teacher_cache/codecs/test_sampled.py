import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from distill.errors import CacheError
from distill.objectives.output_head import OutputHead
from distill.teacher_cache.codecs import EncodedRows, HeadShape, TierSettings, decode_samples, make_codec
from distill.teacher_cache.codecs.sampled import draw
from tests.distill.teacher_cache.codecs.examples import codec_for, encoded, some_head, some_states


def counted(samples, vocab_size: int) -> torch.Tensor:
    """[tokens, vocab] of how often each token was drawn."""
    row = torch.repeat_interleave(torch.diff(samples.row_offsets))
    return torch.zeros(len(samples.row_offsets) - 1, vocab_size, dtype=torch.int64).index_put(
        (row, samples.token_ids), samples.counts, accumulate=True
    )


def test_counts_of_ten_thousand_draws_follow_the_teacher():
    """Chi-square over 150 tokens, 200 positions of one state with 50 draws each; tokens below 5 draws are pooled."""
    head, state = some_head(scale=0.5), some_states(1)
    codec = codec_for(head, codec="sampled")
    samples = decode_samples(codec, encoded(codec, state.expand(200, -1).contiguous(), head, lengths=[50] * 4))
    drawn = counted(samples, 150).sum(0).double()
    assert int(drawn.sum()) == 10_000
    expected = 10_000 * head.logits(state)[0].double().softmax(-1)
    rare = expected < 5
    drawn = torch.cat([drawn[~rare], drawn[rare].sum().unsqueeze(0)])
    expected = torch.cat([expected[~rare], expected[rare].sum().unsqueeze(0)])
    assert stats.chisquare(drawn.numpy(), expected.numpy()).pvalue > 0.01


def test_the_estimate_spreads_as_independent_draws_do():
    """Var(count / N) = p (1 - p) / N over 400 positions of one state, each token within 40 %."""
    head, state = OutputHead(torch.tensor([[0.0], [1.0], [2.0]])), torch.ones(1, 1)
    codec = codec_for(head, codec="sampled", num_samples=30)
    shares = counted(decode_samples(codec, encoded(codec, state.expand(400, -1).contiguous(), head)), 3) / 30
    probs = torch.tensor([0.0, 1.0, 2.0]).softmax(-1)
    torch.testing.assert_close(shares.var(0), probs * (1 - probs) / 30, rtol=0.4, atol=0)


@given(seed=st.integers(0, 1000), vocab_size=st.integers(1, 300), holes=st.booleans())
def test_draws_are_those_of_the_plain_distribution_function(seed, vocab_size, holes):
    generator = torch.Generator().manual_seed(seed)
    weights = torch.rand(3, vocab_size, generator=generator) + 0.01
    if holes:
        weights[:, 1:] *= torch.rand(3, vocab_size - 1, generator=generator) > 0.7
    places = torch.rand(3, 20, dtype=torch.float64, generator=generator).sort(-1).values
    function = weights.double().cumsum(-1)
    expected = torch.searchsorted(function / function[:, -1:], places, right=True)
    found = draw(weights, places)
    # A place within float32's noise of a border may fall on either side of it.
    assert (found != expected).sum() <= 1
    assert bool((weights.gather(1, found) > 0).all())
    assert bool((torch.diff(found) >= 0).all())


def test_tokens_rarer_than_float32_steps_are_drawn():
    """Token 1 has mass 1e-9, less than the distance of float32 numbers near 1; it owns the places above 1 - 1e-9."""
    weights = torch.zeros(1, 200)
    weights[0, 0], weights[0, 1], weights[0, 190] = 1.0, 1e-9, 1e-9
    places = torch.tensor([[0.5, 1 - 1.5e-9, 1 - 0.5e-9, 1 - 2**-53]], dtype=torch.float64)
    assert draw(weights, places).tolist() == [[0, 1, 190, 190]]


def test_fifty_draws_of_a_teacher_of_two_nats_take_at_most_40_bytes():
    head, states = some_head(vocab_size=32_000, hidden_size=256, scale=1.8), some_states(60, hidden_size=256)
    log_probs = head.logits(states).log_softmax(-1)
    assert float(-(log_probs.exp() * log_probs).sum(-1).mean()) > 1.9
    assert encoded(codec_for(head, codec="sampled"), states, head).size_bytes <= 40 * 60


def test_a_certain_token_takes_one_entry():
    head = OutputHead(torch.tensor([[1000.0], [0.0]]))
    codec = codec_for(head, codec="sampled")
    rows = encoded(codec, torch.ones(1, 1), head)
    samples = decode_samples(codec, rows)
    assert (samples.token_ids.tolist(), samples.counts.tolist(), samples.row_offsets.tolist()) == ([0], [50], [0, 1])
    assert rows.size_bytes == 4


def test_known_entry():
    """Id 5 drawn 50 times: 5 + 50 * 2^18 = 13107205 = 0xC80005, lowest byte first."""
    head = OutputHead(torch.tensor([[0.0]] * 5 + [[1000.0]]))
    codec = codec_for(head, codec="sampled")
    assert encoded(codec, torch.ones(1, 1), head).records.tolist() == [0x05, 0x00, 0xC8]


def test_draws_hang_on_the_seed_and_the_sequence_only():
    head, states = some_head(), some_states(6)
    both = encoded(codec_for(head, codec="sampled"), states, head, lengths=[3, 3])
    again = encoded(codec_for(head, codec="sampled"), states, head, lengths=[3, 3])
    other = encoded(codec_for(head, codec="sampled", seed=1), states, head, lengths=[3, 3])
    assert torch.equal(both.records, again.records)
    assert not torch.equal(both.records, other.records)


def test_equal_states_of_two_sequences_are_drawn_apart():
    head = some_head()
    states = some_states(1).expand(8, -1).contiguous()
    codec = codec_for(head, codec="sampled")
    one, two = encoded(codec, states, head, lengths=[4, 4]).split([4, 4])
    assert not torch.equal(one.records, two.records)


def test_a_vocabulary_beyond_eighteen_bits_is_refused():
    with pytest.raises(CacheError, match=r"vocabulary is 262145(.|\n)*up to 262144"):
        make_codec(TierSettings(codec="sampled"), HeadShape(2**18 + 1, 8))


def test_log_probs_of_tokens_are_refused():
    head = some_head()
    codec = codec_for(head, codec="sampled")
    with pytest.raises(CacheError, match="stores no log-probs"):
        codec.token_log_probs(encoded(codec, some_states(1), head), torch.tensor([0]), head=head)


@pytest.mark.parametrize(
    ("entries", "counts", "problem"),
    [
        ([(3, 20)], [2], "bytes are not what the counts"),
        ([(3, 19)], [1], "sum to 19, not 20"),
        ([(149, 10), (150, 10)], [2], "outside the vocabulary"),
        ([(3, 20), (4, 0)], [2], "a count of zero"),
        ([(4, 10), (3, 10)], [2], "do not climb"),
        ([(3, 10), (3, 10)], [2], "do not climb"),
        ([(3, 20)], [1, 0], "counts of token 1 sum to 0"),
    ],
)
def test_entries_that_cannot_be_are_named(entries, counts, problem):
    codec = codec_for(some_head(), codec="sampled", num_samples=20)
    values = torch.tensor([token_id | count << 18 for token_id, count in entries], dtype=torch.int32)
    records = values.unsqueeze(-1).view(torch.uint8)[:, :3].flatten()
    assert problem in codec.check(EncodedRows(records, torch.tensor(counts, dtype=torch.uint8)))
