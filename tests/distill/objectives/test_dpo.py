import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from distill.errors import RecipeError
from distill.objectives import DpoSettings, dpo_loss, dpo_quantities
from distill.objectives.dpo import log_ratio, log_ratio_difference, mean_nll, reward_quantities
from distill.settings import validated
from tests import references
from tests.strategies import pair_log_probs, tensors

BETAS = st.floats(1e-3, 2.0)


def one(*values: float) -> list[torch.Tensor]:
    return [torch.tensor([value], dtype=torch.float64) for value in values]


def test_loss_known_answer():
    """Log-ratios 2 and -3: M = 0.1 * 5 = 1/2, so the loss is ln(1 + e^-1/2)."""
    loss = dpo_loss(*one(-20, -20, -22, -17), beta=0.1)
    torch.testing.assert_close(loss, torch.tensor([math.log(1 + math.exp(-0.5))], dtype=torch.float64))


def test_loss_of_the_reference_itself_is_log_two():
    values = one(-31.5, -7.25)
    torch.testing.assert_close(dpo_loss(*values, *values, beta=0.3), one(math.log(2))[0])


def test_label_smoothing_known_answer():
    """M = 1: 0.9 ln(1 + 1/e) + 0.1 ln(1 + e)."""
    loss = dpo_loss(*one(-10, -20, -20, -20), beta=0.1, label_smoothing=0.1)
    expected = 0.9 * math.log(1 + math.exp(-1)) + 0.1 * math.log(1 + math.e)
    torch.testing.assert_close(loss, one(expected)[0])


def test_smoothed_loss_is_least_where_the_sigmoid_is_one_minus_smoothing():
    """d/dM of -(1-e) log sg(M) - e log sg(-M) is sg(M) - (1 - e), zero at M = logit(1 - e)."""
    margin = torch.tensor([math.log(0.8 / 0.2)], dtype=torch.float64, requires_grad=True)
    dpo_loss(margin, *one(0, 0, 0), beta=1.0, label_smoothing=0.2).sum().backward()
    torch.testing.assert_close(margin.grad, torch.zeros(1, dtype=torch.float64))


@given(pair_log_probs(4), BETAS, st.sampled_from([0.0, 0.1, 0.4]))
def test_loss_agrees_with_the_reference(terms, beta, label_smoothing):
    pw, pl, rw, rl = (term.tolist() for term in terms)
    expected = [
        references.dpo((pw[i], pl[i]), (rw[i], rl[i]), beta=beta, label_smoothing=label_smoothing)
        for i in range(len(pw))
    ]
    loss = dpo_loss(*terms, beta=beta, label_smoothing=label_smoothing)
    torch.testing.assert_close(loss, torch.tensor(expected, dtype=torch.float64), rtol=1e-9, atol=1e-9)


@given(pair_log_probs(4), BETAS)
def test_loss_falls_as_the_margin_grows(terms, beta):
    margin = dpo_quantities(*terms, beta=beta)["margin"]
    order = margin.argsort()
    assert (dpo_loss(*terms, beta=beta)[order].diff() <= 0).all()


@given(pair_log_probs(4), BETAS)
def test_swapping_the_answers_turns_the_margin_round(terms, beta):
    pw, pl, rw, rl = terms
    swapped = dpo_quantities(pl, pw, rl, rw, beta=beta)["margin"]
    torch.testing.assert_close(swapped, -dpo_quantities(*terms, beta=beta)["margin"])


def test_gradient_is_that_of_finite_differences():
    generator = torch.manual_seed(2)
    policy = [torch.randn(4, dtype=torch.float64, generator=generator, requires_grad=True) for _ in range(2)]
    reference = [torch.randn(4, dtype=torch.float64, generator=generator) for _ in range(2)]
    for label_smoothing in (0.0, 0.2):
        assert torch.autograd.gradcheck(
            lambda w, r, smoothing=label_smoothing: dpo_loss(w, r, *reference, beta=0.7, label_smoothing=smoothing),
            policy,
        )


def test_only_the_policy_carries_a_gradient():
    terms = [term.requires_grad_() for term in one(-20, -18, -22, -17)]
    dpo_loss(*terms).sum().backward()
    assert terms[0].grad is not None
    assert terms[2].grad is None
    assert terms[3].grad is None


def test_narrow_log_probs_are_widened():
    terms = [torch.full((2,), value, dtype=torch.bfloat16) for value in (-20, -18, -22, -17)]
    assert dpo_loss(*terms).dtype == torch.float32
    assert dpo_quantities(*terms)["margin"].dtype == torch.float32


def test_an_answer_that_only_the_policy_rules_out_costs_infinity():
    assert dpo_loss(*one(-math.inf, -18, -22, -17)).item() == math.inf
    assert dpo_loss(*one(-20, -math.inf, -22, -17)).item() == 0.0


def test_a_huge_margin_neither_overflows_nor_loses_its_gradient():
    """M = -1e4: the loss is 1e4 and its slope in the chosen log-prob is -beta."""
    terms = one(-1e5, 0, 0, 0)
    terms[0].requires_grad_()
    loss = dpo_loss(*terms, beta=0.1)
    loss.sum().backward()
    torch.testing.assert_close(loss.detach(), one(1e4)[0])
    torch.testing.assert_close(terms[0].grad, one(-0.1)[0])


def test_quantities_known_answer():
    """Log-ratios 2 and -1 at beta 1/2: rewards 1 and -1/2, margin 3/2, weight 1 / (1 + e^1.5)."""
    quantities = dpo_quantities(*one(-20, -18, -22, -17), beta=0.5)
    expected = {
        "margin": 1.5,
        "pair_weight": 1 / (1 + math.exp(1.5)),
        "accuracy": 1.0,
        "chosen_reward": 1.0,
        "rejected_reward": -0.5,
    }
    assert quantities.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(quantities[name], one(value)[0])


def test_a_margin_of_zero_is_not_accurate():
    assert reward_quantities(*one(1, 1))["accuracy"].item() == 0.0


def test_quantities_carry_no_gradient():
    terms = [term.requires_grad_() for term in one(-20, -18, -22, -17)]
    assert not any(value.requires_grad for value in dpo_quantities(*terms).values())


def test_log_ratios_know_nothing_of_the_anchors_gradient():
    policy, anchor = (term.requires_grad_() for term in one(-3, -5))
    log_ratio(policy, anchor).sum().backward()
    assert anchor.grad is None
    assert policy.grad.item() == 1.0


def test_log_ratio_difference_known_answer():
    """(-20 + 22) - (-18 + 17) = 3."""
    assert log_ratio_difference(*one(-20, -18, -22, -17)).item() == 3.0


def test_mean_nll_is_per_token_and_zero_of_no_tokens():
    """-(-12) / 4 = 3; an answer without tokens has log-prob 0."""
    nll = mean_nll(torch.tensor([-12.0, 0.0]), torch.tensor([4, 0]))
    torch.testing.assert_close(nll, torch.tensor([3.0, 0.0]))


@pytest.mark.parametrize("beta", [0.0, -0.1, math.nan, math.inf])
def test_loss_refuses_a_beta_that_is_not_positive(beta):
    with pytest.raises(RecipeError, match=r"beta is .*\nwhy: it must be positive"):
        dpo_loss(*one(0, 0, 0, 0), beta=beta)


@pytest.mark.parametrize("label_smoothing", [-0.1, 0.5, math.nan])
def test_loss_refuses_label_smoothing_out_of_range(label_smoothing):
    with pytest.raises(RecipeError, match=r"label_smoothing is .*\nwhy: it must be at least 0 and below 1/2"):
        dpo_loss(*one(0, 0, 0, 0), label_smoothing=label_smoothing)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"beta": 0.0}, r"beta is 0.*must be positive"),
        ({"beta": math.inf}, r"beta is inf.*finite"),
        ({"label_smoothing": 0.5}, r"label_smoothing is 0\.5.*less than 0\.5"),
        ({"nll_weight": -1}, r"nll_weight is -1.*greater than or equal to 0"),
        ({"bta": 1}, r"bta is not a known key \(did you mean beta\?\)"),
    ],
)
def test_settings_refuse_what_the_loss_would(values, message):
    with pytest.raises(RecipeError, match=message):
        validated(DpoSettings, values, source="recipe")


F_DIVERGENCES = [("reverse_kl", 0.5), ("forward_kl", 0.5), ("jensen_shannon", 0.5), ("alpha", 0.3)]
f_divergences = pytest.mark.parametrize(("divergence", "alpha"), F_DIVERGENCES)


@f_divergences
def test_f_dpo_known_answer(divergence, alpha):
    """Ratios u = 2 and 1/2. f' of both: ln 2, -ln 2; 1/2, -1; ln 4/3, ln 2/3; (1 - 2^-.3)/.3, (1 - 2^.3)/.3."""
    margins = {
        "reverse_kl": 2 * math.log(2),
        "forward_kl": 1.5,
        "jensen_shannon": math.log(2),
        "alpha": (2**0.3 - 2**-0.3) / 0.3,
    }
    terms = one(math.log(2) - 5, -math.log(2) - 7, -5, -7)
    loss = dpo_loss(*terms, beta=0.4, divergence=divergence, alpha=alpha)
    torch.testing.assert_close(loss, one(math.log(1 + math.exp(-0.4 * margins[divergence])))[0])
    quantities = dpo_quantities(*terms, beta=0.4, divergence=divergence, alpha=alpha)
    torch.testing.assert_close(quantities["margin"], one(0.4 * margins[divergence])[0])


@f_divergences
@given(tensors(4, 3, low=-20.0, high=0.0), BETAS, st.sampled_from([0.0, 0.2]))
def test_f_dpo_agrees_with_the_reference(divergence, alpha, terms, beta, label_smoothing):
    pw, pl, rw, rl = terms
    loss = dpo_loss(pw, pl, rw, rl, beta=beta, label_smoothing=label_smoothing, divergence=divergence, alpha=alpha)
    rewards = [
        [references.f_dpo_reward(x, divergence, alpha=alpha) for x in ratio.tolist()] for ratio in (pw - rw, pl - rl)
    ]
    expected = [
        references.dpo((w, r), (0.0, 0.0), beta=beta, label_smoothing=label_smoothing)
        for w, r in zip(*rewards, strict=True)
    ]
    torch.testing.assert_close(loss, torch.tensor(expected, dtype=torch.float64), rtol=1e-7, atol=1e-9)


@f_divergences
def test_f_dpo_of_the_reference_itself_is_log_two(divergence, alpha):
    values = one(-31.5, -7.25)
    torch.testing.assert_close(dpo_loss(*values, *values, divergence=divergence, alpha=alpha), one(math.log(2))[0])


@f_divergences
def test_f_dpo_gradient_is_that_of_finite_differences(divergence, alpha):
    generator = torch.manual_seed(12)
    policy = [torch.randn(4, dtype=torch.float64, generator=generator, requires_grad=True) for _ in range(2)]
    reference = [torch.randn(4, dtype=torch.float64, generator=generator) for _ in range(2)]
    assert torch.autograd.gradcheck(
        lambda w, r: dpo_loss(w, r, *reference, beta=0.7, label_smoothing=0.1, divergence=divergence, alpha=alpha),
        policy,
    )


def test_an_alpha_that_no_divergence_reads_is_refused():
    with pytest.raises(RecipeError, match=r"alpha is 0\.3, but divergence forward_kl does not read it"):
        validated(DpoSettings, {"divergence": "forward_kl", "alpha": 0.3}, source="recipe")
    assert validated(DpoSettings, {"divergence": "alpha", "alpha": 0.3}, source="recipe").alpha == 0.3
