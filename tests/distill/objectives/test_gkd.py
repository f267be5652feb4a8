import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from distill.errors import RecipeError
from distill.numerics import log_softmax
from distill.objectives import GkdSettings, PairTerms, TokenTerms, divergence, is_on_policy, pair_loss
from distill.settings import validated

SHARES = st.floats(0.0, 1.0)


def test_the_loss_is_the_mean_divergence_over_one_answer():
    """Answers of tokens 0, 1 and of token 2; what stands at another answer's token 3 does not count."""
    teacher, student = torch.randn(2, 4, 5, dtype=torch.float64, generator=torch.manual_seed(1))
    chosen = torch.tensor([True, True, True, False])
    tokens = TokenTerms(log_softmax(teacher), log_softmax(student), torch.tensor([0, 0, 1, 1]), chosen)
    loss = pair_loss(GkdSettings(beta=0.3), PairTerms(torch.zeros(2), torch.zeros(2)), tokens=tokens).loss
    values = divergence("jensen_shannon", tokens.teacher_log_probs, tokens.student_log_probs, beta=0.3)
    torch.testing.assert_close(loss, torch.stack([values[:2].mean(), values[2]]))


def test_known_answer():
    """p = (.7, .2, .1), q = (.5, .3, .2): .021901 at beta 1/2."""
    p = torch.tensor([[0.7, 0.2, 0.1]], dtype=torch.float64).log()
    q = torch.tensor([[0.5, 0.3, 0.2]], dtype=torch.float64).log()
    tokens = TokenTerms(p, q, torch.tensor([0]), torch.tensor([True]))
    loss = pair_loss(GkdSettings(), PairTerms(torch.zeros(1), torch.zeros(1)), tokens=tokens).loss
    assert loss.item() == pytest.approx(0.021901, abs=1e-6)


def test_gradient_is_that_of_finite_differences():
    teacher, student = torch.randn(2, 3, 4, dtype=torch.float64, generator=torch.manual_seed(2))

    def loss(x: torch.Tensor) -> torch.Tensor:
        chosen, pair = torch.tensor([True] * 3), torch.tensor([0, 1, 1])
        tokens = TokenTerms(log_softmax(teacher), log_softmax(x), pair, chosen)
        settings = GkdSettings(beta=0.7, temperature=0.9)
        return pair_loss(settings, PairTerms(torch.zeros(2), torch.zeros(2)), tokens=tokens).loss

    assert torch.autograd.gradcheck(loss, student.requires_grad_())


@given(st.integers(0, 10_000), st.integers(0, 100), SHARES, SHARES)
def test_a_greater_share_only_adds_steps(step, seed, share, other):
    less, more = sorted([share, other])
    assert is_on_policy(step, seed=seed, share=less) <= is_on_policy(step, seed=seed, share=more)


@given(st.integers(0, 10_000), st.integers(0, 100))
def test_no_share_is_no_step_and_the_whole_share_is_every_step(step, seed):
    assert not is_on_policy(step, seed=seed, share=0.0)
    assert is_on_policy(step, seed=seed, share=1.0)


def test_about_the_share_of_steps_is_on_policy_and_seeds_differ():
    """Of 4,000 draws at 0.3 the standard deviation is 29."""
    steps = [[is_on_policy(step, seed=seed, share=0.3) for step in range(4000)] for seed in (0, 1)]
    assert all(abs(sum(taken) - 1200) < 4 * 29 for taken in steps)
    assert steps[0] != steps[1]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"beta": 1.5}, r"beta is 1\.5.*less than or equal to 1"),
        ({"on_policy_share": -0.1}, r"on_policy_share is -0\.1.*greater than or equal to 0"),
        ({"tier": "sampled"}, r"tier is sampled, but jensen_shannon cannot be computed from it"),
    ],
)
def test_settings_refuse(values, message):
    with pytest.raises(RecipeError, match=message):
        validated(GkdSettings, values, source="recipe")


def test_the_forward_end_may_learn_from_drawn_tokens():
    assert GkdSettings(beta=0.0, tier="sampled").tier == "sampled"
