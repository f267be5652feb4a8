import pytest
import torch

from distill.objectives.head_chunks import HeadChunks, HeadGradients
from distill.objectives.output_head import OutputHead

WEIGHT = torch.eye(2, dtype=torch.float64)
STATES = torch.zeros(3, 2, dtype=torch.float64)
TARGETS = torch.tensor([0, 1, 1])


def halves(log_probs: torch.Tensor, tokens: slice) -> torch.Tensor:
    """The sum of log-probs; of two equal probabilities -2 ln 2."""
    return log_probs.sum(-1)


def test_equal_logits_are_worth_minus_ln_2():
    chunks = HeadChunks(STATES, OutputHead(WEIGHT), TARGETS, (), size=2)
    torch.testing.assert_close(chunks.values(slice(1, 3)), torch.full((1, 2), 0.5, dtype=torch.float64).log())


def test_terms_stand_below_the_log_probs():
    chunks = HeadChunks(STATES, OutputHead(WEIGHT), TARGETS, (halves,), size=3)
    expected = torch.tensor([[0.5] * 3, [0.25] * 3], dtype=torch.float64).log()
    torch.testing.assert_close(chunks.values(slice(0, 3)), expected)


@pytest.mark.parametrize("terms", [(), (halves,)], ids=len)
def test_gradients_known_by_hand(terms):
    """d log p_y / dz = onehot - 1/2; a term of equal log-probs has slope 1 - 2/2 = 0. One token, gradient 2."""
    chunks = HeadChunks(torch.ones(1, 2, dtype=torch.float64), OutputHead(WEIGHT), TARGETS[:1], terms, size=1)
    gradients = HeadGradients(chunks, needs=(True, True, False))
    chunks.values(slice(0, 1), keeps_graph=True)
    gradients.add(slice(0, 1), torch.tensor([[2.0], [7.0]], dtype=torch.float64)[: 1 + len(terms)])
    states, weight, bias = gradients.in_stored_dtypes()
    torch.testing.assert_close(states, torch.tensor([[1.0, -1.0]], dtype=torch.float64))
    torch.testing.assert_close(weight, torch.tensor([[1.0, 1.0], [-1.0, -1.0]], dtype=torch.float64))
    assert bias is None


def test_scaling_is_in_place():
    chunks = HeadChunks(STATES, OutputHead(WEIGHT, torch.zeros(2, dtype=torch.float64)), TARGETS, (), size=3)
    gradients = HeadGradients(chunks, needs=(False, False, True))
    chunks.values(slice(0, 3), keeps_graph=True)
    gradients.add(slice(0, 3), torch.ones(1, 3, dtype=torch.float64))
    gradients.scale(torch.tensor(10.0))
    # Targets 0, 1, 1: one less 3/2, two less 3/2.
    torch.testing.assert_close(gradients.bias, torch.tensor([-5.0, 5.0], dtype=torch.float64))
    assert gradients.hidden_states is None
    assert gradients.weight is None
