import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from distill.numerics import log_softmax
from distill.objectives.output_head import OutputHead
from distill.teacher_cache.codecs import CODECS


@pytest.mark.parametrize(
    ("codec", "hidden_dtype", "expected"),
    [
        ("scores", "bfloat16", 8),
        ("exact", "bfloat16", 8 + 2 * 64),
        ("exact", "float32", 8 + 4 * 64),
    ],
)
def test_a_token_takes_its_id_its_log_prob_and_its_hidden_state(codec, hidden_dtype, expected):
    assert CODECS[codec].bytes_per_token(hidden_size=64, hidden_dtype=hidden_dtype) == expected


def test_the_table_is_keyed_by_the_codecs_own_names():
    assert all(codec.name == name for name, codec in CODECS.items())


@given(seed=st.integers(0, 1000), spread=st.sampled_from([0.1, 1.0, 5.0]), soft_cap=st.sampled_from([None, 30.0]))
def test_exact_keeps_its_error_bound(seed, spread, soft_cap):
    """KL <= d^2 / 2 with d = 2^-8 max_v sum_i |h_i W_vi| |scale|; float64 leaves no other error."""
    draw = torch.Generator().manual_seed(seed)
    hidden_states = spread * torch.randn(3, 8, generator=draw, dtype=torch.float64)
    head = OutputHead(torch.randn(11, 8, generator=draw, dtype=torch.float64), None, -1.5, soft_cap)
    true = log_softmax(head.logits(hidden_states))
    stored = log_softmax(head.logits(hidden_states.bfloat16().double()))
    kl_nats = (true.exp() * (true - stored)).sum(-1)
    bound = (2**-8 * 1.5 * (hidden_states.abs() @ head.weight.abs().T)).amax(-1)
    assert bool((kl_nats <= bound**2 / 2 + 1e-12).all())


def test_scores_keep_log_probs_to_a_millionth_of_a_nat():
    log_prob = -math.pi * 5
    assert abs(float(torch.tensor(log_prob, dtype=torch.float32)) - log_prob) < 1e-6
