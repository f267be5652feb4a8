import pytest
import torch

from distill.errors import RecipeError
from distill.numerics import log_softmax
from distill.objectives import DistillM2Settings, PairTerms, TokenTerms, divergence, pair_loss, token_losses
from distill.settings import validated

PAIR_INDEX = torch.tensor([0, 0, 1, 1, 0])
IS_CHOSEN = torch.tensor([True, False, True, False, False])


def terms(student: torch.Tensor, teacher: torch.Tensor) -> TokenTerms:
    return TokenTerms(log_softmax(teacher), log_softmax(student), PAIR_INDEX, IS_CHOSEN)


def loss_of(settings: DistillM2Settings, tokens: TokenTerms) -> torch.Tensor:
    return pair_loss(settings, PairTerms(torch.zeros(2), torch.zeros(2)), tokens=tokens).loss


def test_each_answer_gets_its_own_divergence_and_its_own_mean():
    """Pair 0: token 0 chosen, tokens 1 and 4 rejected; pair 1: token 2 chosen, token 3 rejected. b = 0.6."""
    teacher, student = torch.randn(2, 5, 4, dtype=torch.float64, generator=torch.manual_seed(1))
    tokens = terms(student, teacher)
    skl = divergence("skew_kl", tokens.teacher_log_probs, tokens.student_log_probs, alpha=0.2)
    srkl = divergence("skew_reverse_kl", tokens.teacher_log_probs, tokens.student_log_probs, alpha=0.4)
    settings = DistillM2Settings(chosen_alpha=0.2, rejected_alpha=0.4, rejected_weight=0.6)
    result = pair_loss(settings, PairTerms(torch.zeros(2), torch.zeros(2)), tokens=tokens)
    chosen, rejected = skl[[0, 2]], torch.stack([(srkl[1] + srkl[4]) / 2, srkl[3]])
    torch.testing.assert_close(result.loss, 1.4 * chosen + 0.6 * rejected)
    torch.testing.assert_close(result.quantities["chosen_divergence"], chosen)
    torch.testing.assert_close(result.quantities["rejected_divergence"], rejected)
    torch.testing.assert_close(result.quantities["token_divergence"], result.loss)


def test_known_answer():
    """p = (.7, .2, .1), q = (.5, .3, .2) at one token of each answer: SKL .069578 + SRKL .072828 at b = 1."""
    p = torch.tensor([[0.7, 0.2, 0.1]], dtype=torch.float64).log().expand(2, 3)
    q = torch.tensor([[0.5, 0.3, 0.2]], dtype=torch.float64).log().expand(2, 3)
    tokens = TokenTerms(p, q, torch.tensor([0, 0]), torch.tensor([True, False]))
    loss = pair_loss(DistillM2Settings(), PairTerms(torch.zeros(1), torch.zeros(1)), tokens=tokens).loss
    assert loss.item() == pytest.approx(0.069578 + 0.072828, abs=2e-6)


def test_a_student_like_the_teacher_costs_nothing():
    teacher = torch.randn(5, 4, dtype=torch.float64, generator=torch.manual_seed(2))
    torch.testing.assert_close(
        loss_of(DistillM2Settings(), terms(teacher, teacher)), torch.zeros(2, dtype=torch.float64)
    )


def test_without_weight_on_the_students_answers_they_are_not_pulled():
    teacher, student = torch.randn(2, 5, 4, dtype=torch.float64, generator=torch.manual_seed(3))
    student.requires_grad_()
    loss_of(DistillM2Settings(rejected_weight=0.0), terms(student, teacher)).sum().backward()
    assert (student.grad[~IS_CHOSEN] == 0).all()
    assert (student.grad[IS_CHOSEN] != 0).any()


def test_gradient_is_that_of_finite_differences():
    teacher, student = torch.randn(2, 5, 4, dtype=torch.float64, generator=torch.manual_seed(4))
    settings = DistillM2Settings(rejected_weight=0.7, temperature=1.5)
    assert torch.autograd.gradcheck(lambda x: loss_of(settings, terms(x, teacher)), student.requires_grad_())


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"chosen_alpha": 1.0}, r"chosen_alpha is 1\.0.*less than 1"),
        ({"rejected_weight": 2.5}, r"rejected_weight is 2\.5.*less than or equal to 2"),
        ({"temperature": 0}, r"temperature is 0.*must be positive"),
        ({"tier": "sampled"}, r"tier is sampled, but skew_kl cannot be computed from it"),
        ({"tier": "top-k", "temperature": 2}, r"tier is top-k, but skew_kl at temperature 2 cannot"),
    ],
)
def test_settings_refuse(values, message):
    with pytest.raises(RecipeError, match=message):
        validated(DistillM2Settings, values, source="recipe")


def test_an_answer_of_weight_zero_is_in_no_term():
    """Zero times an infinite divergence would be nan."""
    assert [loss.on for loss in token_losses(DistillM2Settings(rejected_weight=0.0))] == ["chosen"]
