import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from distill.teacher_cache.codecs import EncodedRows
from distill.teacher_cache.codecs.rows import as_bytes
from tests.distill.teacher_cache.codecs.examples import codec_for, encoded, kl_nats, some_head, some_states


def test_a_token_takes_two_bytes_for_each_row_of_the_head():
    assert codec_for(some_head(vocab_size=77), codec="logits-bf16").row_bytes == 154


@given(seed=st.integers(0, 1000), scale=st.sampled_from([0.1, 1.0, 4.0]))
def test_bf16_log_probs_keep_their_error_bound(seed, scale):
    """KL <= 2^-17 sum_v p_v^(1 - 2^-8) (ln p_v)^2."""
    head, states = some_head(seed=seed, scale=scale), some_states(4, seed=seed)
    codec = codec_for(head, codec="logits-bf16")
    true = head.logits(states).double().log_softmax(-1)
    bound = 2**-17 * ((true * (1 - 2**-8)).exp() * true**2).sum(-1)
    assert bool((kl_nats(true, codec.log_probs(encoded(codec, states, head), head=head)) <= bound + 1e-6).all())


def test_decoded_distributions_sum_to_one():
    head = some_head()
    codec = codec_for(head, codec="logits-bf16")
    sums = codec.log_probs(encoded(codec, some_states(6), head), head=None).exp().sum(-1)
    torch.testing.assert_close(sums, torch.ones(6))


@pytest.mark.parametrize("value", [float("nan"), 1.0])
def test_values_that_are_no_distribution_are_named(value):
    values = torch.full((3, 150), -5.0, dtype=torch.bfloat16)
    values[2, 7] = value
    codec = codec_for(some_head(), codec="logits-bf16")
    assert codec.check(EncodedRows(as_bytes(values))) == "the log-probs of token 2 are no distribution"


def test_a_token_that_the_teacher_rules_out_is_kept_but_not_a_row_of_them():
    values = torch.full((1, 150), -5.0, dtype=torch.bfloat16)
    values[0, 3] = -torch.inf
    codec = codec_for(some_head(), codec="logits-bf16")
    assert codec.check(EncodedRows(as_bytes(values))) is None
    assert codec.check(EncodedRows(as_bytes(torch.full_like(values, -torch.inf)))) is not None
