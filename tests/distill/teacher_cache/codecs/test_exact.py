import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from distill.objectives.output_head import OutputHead
from distill.teacher_cache.codecs import hidden_states
from tests.distill.teacher_cache.codecs.examples import codec_for, encoded, kl_nats, some_head, some_states


@pytest.mark.parametrize(("hidden_dtype", "expected"), [("bfloat16", 40), ("float32", 80)])
def test_a_token_takes_its_hidden_state(hidden_dtype, expected):
    assert codec_for(some_head(), codec="exact", hidden_dtype=hidden_dtype).row_bytes == expected


@given(seed=st.integers(0, 1000), spread=st.sampled_from([0.1, 1.0, 5.0]), soft_cap=st.sampled_from([None, 30.0]))
def test_exact_keeps_its_error_bound(seed, spread, soft_cap):
    """KL <= D^2 / 2 with D = 2^-8 max_v sum_i |h_i W_vi| |scale|; 1e-5 is float32's noise."""
    states = spread * some_states(3, seed=seed)
    head = some_head(vocab_size=11, seed=seed, scale=-1.5, soft_cap=soft_cap)
    codec = codec_for(head, codec="exact")
    found = kl_nats(head.logits(states), codec.log_probs(encoded(codec, states, head), head=head))
    bound = (2**-8 * 1.5 * (states.abs() @ head.weight.abs().T)).amax(-1) ** 2 / 2
    assert bool((found <= bound + 1e-5).all())


def test_states_of_a_bfloat16_teacher_come_back_as_they_were():
    head, states = some_head(), some_states(5).bfloat16().float()
    codec = codec_for(head, codec="exact")
    rows = encoded(codec, states, head)
    assert torch.equal(hidden_states(codec, rows), states)
    torch.testing.assert_close(codec.log_probs(rows, head=head), head.logits(states).log_softmax(-1))


def test_float32_rounds_nothing():
    head, states = some_head(), some_states(5)
    codec = codec_for(head, codec="exact", hidden_dtype="float32")
    assert torch.equal(hidden_states(codec, encoded(codec, states, head)), states)


def test_rows_in_the_middle_of_a_shard_decode_as_alone():
    head, states = some_head(), some_states(5)
    codec = codec_for(head, codec="exact")
    rows = encoded(codec, states, head)
    assert torch.equal(hidden_states(codec, rows)[2:4], hidden_states(codec, rows.split([2, 2, 1])[1]))


@pytest.mark.parametrize("codec_name", ["exact", "exact-int8", "logits-bf16"])
def test_token_log_probs_are_gathered_from_the_distributions(codec_name):
    head, states = some_head(), some_states(9)
    codec = codec_for(head, codec=codec_name)
    rows, targets = encoded(codec, states, head), torch.arange(9)
    expected = codec.log_probs(rows, head=head).gather(-1, targets.unsqueeze(-1))[:, 0]
    torch.testing.assert_close(codec.token_log_probs(rows, targets, head=head), expected)


def test_rows_after_the_tokenizers_last_id_are_kept():
    """A head padded from 5 to 8 rows: the padding's mass stands in the distribution, as the teacher gave it."""
    head = OutputHead(torch.cat([torch.randn(5, 4), torch.zeros(3, 4)]))
    states = torch.randn(3, 4).bfloat16().float()
    codec = codec_for(head, codec="exact")
    found = codec.log_probs(encoded(codec, states, head), head=head)
    assert found.shape == (3, 8)
    torch.testing.assert_close(found, head.logits(states).log_softmax(-1))
