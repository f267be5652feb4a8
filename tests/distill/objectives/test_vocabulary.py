import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from distill.errors import ModelError
from distill.objectives.vocabulary import in_shared_vocabulary


def test_known_distribution():
    """(1/2, 1/4, 1/4) on the first two tokens is (2/3, 1/3), and 1/4 was dropped."""
    shared = in_shared_vocabulary(torch.tensor([0.5, 0.25, 0.25]).log(), num_tokens=2)
    torch.testing.assert_close(shared.log_probs.exp(), torch.tensor([2 / 3, 1 / 3]))
    torch.testing.assert_close(shared.dropped_mass, torch.tensor(0.25))


@given(seed=st.integers(0, 1000), num_tokens=st.integers(1, 9))
def test_what_is_kept_sums_to_one_in_the_old_proportions(seed, num_tokens):
    draw = torch.Generator().manual_seed(seed)
    log_probs = torch.randn(2, 3, 9, generator=draw, dtype=torch.float64).log_softmax(-1)
    shared = in_shared_vocabulary(log_probs, num_tokens=num_tokens)
    kept = log_probs[..., :num_tokens].exp()
    torch.testing.assert_close(shared.log_probs.exp(), kept / kept.sum(-1, keepdim=True))
    torch.testing.assert_close(shared.dropped_mass, 1 - kept.sum(-1), rtol=0, atol=1e-12)


def test_a_padded_teacher_meets_its_student_as_the_unpadded_one():
    """Padding rows hold no mass where the teacher rules them out: the rest is as if they had not been there."""
    log_probs = torch.randn(4, 6).log_softmax(-1)
    padded = torch.cat([log_probs, torch.full((4, 2), -torch.inf)], dim=-1)
    shared = in_shared_vocabulary(padded, num_tokens=6)
    torch.testing.assert_close(shared.log_probs, log_probs)
    assert shared.dropped_mass.tolist() == [0.0] * 4


def test_heads_of_one_width_change_nothing():
    log_probs = torch.randn(3, 5).log_softmax(-1)
    shared = in_shared_vocabulary(log_probs, num_tokens=5)
    assert torch.equal(shared.log_probs, log_probs)
    assert shared.dropped_mass.tolist() == [0.0] * 3


def test_where_all_mass_is_dropped_nothing_is_left():
    shared = in_shared_vocabulary(torch.tensor([-torch.inf, -torch.inf, 0.0]), num_tokens=2)
    assert bool(shared.log_probs.isnan().all())
    assert shared.dropped_mass.item() == 1.0


def test_the_gradient_is_that_of_a_softmax_over_the_shared_tokens():
    logits = torch.randn(2, 5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(
        lambda values: in_shared_vocabulary(values.log_softmax(-1), num_tokens=3).log_probs, (logits,)
    )


def test_half_precision_is_widened():
    assert in_shared_vocabulary(torch.zeros(4).bfloat16(), num_tokens=4).log_probs.dtype == torch.float32


@pytest.mark.parametrize("num_tokens", [0, 6])
def test_a_width_that_the_distribution_has_not_is_refused(num_tokens):
    with pytest.raises(ModelError, match=f"{num_tokens} tokens are wanted of a distribution over 5"):
        in_shared_vocabulary(torch.zeros(5), num_tokens=num_tokens)
