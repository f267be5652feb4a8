import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from distill.teacher_cache.codecs import EncodedRows, hidden_states
from distill.teacher_cache.codecs.rows import as_values
from tests.distill.teacher_cache.codecs.examples import codec_for, encoded, kl_nats, some_head, some_states


@pytest.mark.parametrize(("hidden_size", "group_size", "expected"), [(64, 32, 68), (20, 8, 26), (20, 32, 22)])
def test_a_token_takes_a_byte_a_coordinate_and_two_a_group(hidden_size, group_size, expected):
    head = some_head(hidden_size=hidden_size)
    assert codec_for(head, codec="exact-int8", group_size=group_size).row_bytes == expected


@given(
    seed=st.integers(0, 1000),
    spread=st.sampled_from([1e-20, 1.0, 1e4]),
    hidden_size=st.integers(1, 40),
    group_size=st.sampled_from([1, 7, 8, 32]),
)
def test_no_coordinate_is_off_by_more_than_half_its_step(seed, spread, hidden_size, group_size):
    head = some_head(hidden_size=hidden_size, vocab_size=3)
    states = spread * some_states(4, hidden_size=hidden_size, seed=seed)
    codec = codec_for(head, codec="exact-int8", group_size=group_size)
    rows = encoded(codec, states, head)
    steps = as_values(rows.records[:, hidden_size:], torch.bfloat16).float()
    step = steps.repeat_interleave(group_size, dim=1)[:, :hidden_size]
    assert bool(((hidden_states(codec, rows) - states).abs() <= 0.5001 * step).all())


@given(seed=st.integers(0, 1000), soft_cap=st.sampled_from([None, 30.0]))
def test_int8_keeps_its_error_bound(seed, soft_cap):
    """KL <= D^2 / 2 with D = max_v sum_i |W_vi| step_i / 2."""
    head, states = some_head(seed=seed, soft_cap=soft_cap), some_states(4, seed=seed)
    codec = codec_for(head, codec="exact-int8", group_size=8)
    rows = encoded(codec, states, head)
    step = as_values(rows.records[:, 20:], torch.bfloat16).float().repeat_interleave(8, dim=1)[:, :20]
    bound = (step @ head.weight.abs().T / 2).amax(-1) ** 2 / 2
    assert bool((kl_nats(head.logits(states), codec.log_probs(rows, head=head)) <= bound + 1e-5).all())


def test_a_state_of_zeros_comes_back_as_zeros():
    head = some_head()
    codec = codec_for(head, codec="exact-int8")
    assert torch.equal(hidden_states(codec, encoded(codec, torch.zeros(2, 20), head)), torch.zeros(2, 20))


def test_an_outlier_spoils_its_own_group_only():
    head, states = some_head(), some_states(1)
    states[0, 0] = 1e4
    codec = codec_for(head, codec="exact-int8", group_size=10)
    error = (hidden_states(codec, encoded(codec, states, head)) - states).abs()
    assert error[0, 1:10].max() > 0.1 > 0.02 > error[0, 10:].max()


@pytest.mark.parametrize(("step", "problem"), [(float("nan"), "not finite"), (-1.0, "negative")])
def test_a_step_that_is_none_is_named(step, problem):
    head = some_head()
    codec = codec_for(head, codec="exact-int8")
    records = encoded(codec, some_states(3), head).records.clone()
    records[1, 20:] = torch.tensor([step], dtype=torch.bfloat16).view(torch.uint8)
    assert codec.check(EncodedRows(records)) == f"the step of token 1 is {problem}"
