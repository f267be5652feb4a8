import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from distill.errors import CacheError
from distill.objectives.output_head import OutputHead
from distill.teacher_cache.codecs import EncodedRows, hidden_states
from distill.teacher_cache.codecs.rotation import block_size, rotated
from tests.distill.teacher_cache.codecs.examples import codec_for, encoded, int8_steps, kl_nats, some_head, some_states


@pytest.mark.parametrize(("hidden_size", "group_size", "expected"), [(64, 32, 66), (20, 8, 23), (20, 32, 21)])
def test_a_token_takes_a_byte_a_coordinate_and_one_a_group(hidden_size, group_size, expected):
    head = some_head(hidden_size=hidden_size)
    assert codec_for(head, codec="exact-int8", group_size=group_size).row_bytes == expected


@given(
    seed=st.integers(0, 1000),
    spread=st.sampled_from([1e-20, 1.0, 1e4]),
    hidden_size=st.integers(1, 40),
    group_size=st.sampled_from([1, 7, 8, 32]),
)
def test_no_rotated_coordinate_is_off_by_more_than_half_its_step(seed, spread, hidden_size, group_size):
    head = some_head(hidden_size=hidden_size, vocab_size=3)
    states = spread * some_states(4, hidden_size=hidden_size, seed=seed)
    codec = codec_for(head, codec="exact-int8", group_size=group_size)
    rows = encoded(codec, states, head)
    step = int8_steps(rows, hidden_size).repeat_interleave(group_size, dim=1)[:, :hidden_size]
    assert bool((rotated(hidden_states(codec, rows) - states).abs() <= 0.5001 * step).all())


@given(seed=st.integers(0, 1000), soft_cap=st.sampled_from([None, 30.0]))
def test_int8_keeps_its_error_bound(seed, soft_cap):
    """KL <= D^2 / 2 with D = max_v sum_j |R W_v|_j step_j / 2 n, since W_v . e = R W_v . R e / n."""
    head, states = some_head(seed=seed, soft_cap=soft_cap), some_states(4, seed=seed)
    codec = codec_for(head, codec="exact-int8", group_size=8)
    rows = encoded(codec, states, head)
    step = int8_steps(rows, 20).repeat_interleave(8, dim=1)[:, :20]
    bound = (step @ rotated(head.weight).abs().T / 2 / block_size(20)).amax(-1) ** 2 / 2
    assert bool((kl_nats(head.logits(states), codec.log_probs(rows, head=head)) <= bound + 1e-5).all())


def test_a_state_of_zeros_comes_back_as_zeros():
    head = some_head()
    codec = codec_for(head, codec="exact-int8")
    assert torch.equal(hidden_states(codec, encoded(codec, torch.zeros(2, 20), head)), torch.zeros(2, 20))


def test_a_channel_that_stands_out_costs_no_more_than_its_share_of_the_length():
    """Rounding errors are even over the coordinates and follow the length of the state.

    A channel of 30 among 256 of about 1 makes the state sqrt((256 + 900) / 256) = 2.1 times as long. Unrotated it would
    make the steps of its group 30 / 2.4 = 12 times as wide.
    """
    plain = some_states(20, hidden_size=256)
    uneven = plain.clone()
    uneven[:, 5] = 30.0
    head = some_head(hidden_size=256)
    codec = codec_for(head, codec="exact-int8")
    errors = [(hidden_states(codec, encoded(codec, states, head)) - states).square() for states in (plain, uneven)]
    before, after = [float(error[:, :32].mean().sqrt()) for error in errors]
    assert after < 2.6 * before


def test_a_teacher_with_channels_that_stand_out_is_kept_to_5e_4_nats():
    """As trained models are: 8 channels of 512 are 8 to 30 times as large as the others; logits of spread 4."""
    draw = torch.Generator().manual_seed(0)
    states = torch.randn(64, 512, generator=draw)
    states[:, ::64] *= torch.linspace(8, 30, 8)
    head = OutputHead(torch.randn(4000, 512, generator=draw))
    head = OutputHead(head.weight * 4 / head.logits(states).std())
    codec = codec_for(head, codec="exact-int8")
    assert codec.row_bytes <= 1.07 * 512
    found = codec.log_probs(encoded(codec, states, head), head=head)
    assert float(kl_nats(head.logits(states), found).mean()) <= 5e-4


@pytest.mark.parametrize(("largest", "byte"), [(127.0, 160), (128.0, 161), (254.0, 168), (1e-30, 0)])
def test_the_step_is_the_smallest_that_reaches_the_largest_coordinate(largest, byte):
    """One channel, so nothing is rotated: 127 steps of 1, of 2^(1/8), of 2; the smallest step there is."""
    head = some_head(hidden_size=1)
    assert encoded(codec_for(head, codec="exact-int8"), torch.tensor([[largest]]), head).records[0, 1] == byte


def test_a_state_beyond_the_widest_step_is_refused():
    """127 steps of 2^(95 / 8)."""
    head = some_head(hidden_size=1)
    codec = codec_for(head, codec="exact-int8")
    encoded(codec, torch.tensor([[476_000.0]]), head)
    for beyond in (478_000.0, float("inf"), float("nan")):
        with pytest.raises(CacheError, match="token 1 does not fit(.|\n)*beyond 477,018"):
            encoded(codec, torch.tensor([[1.0], [beyond]]), head)


def test_a_number_that_is_never_written_is_named():
    head = some_head()
    codec = codec_for(head, codec="exact-int8")
    records = encoded(codec, some_states(3), head).records.clone()
    records[1, 7] = 128
    assert codec.check(EncodedRows(records)) == "a coordinate of token 1 is -128, which is never written"
