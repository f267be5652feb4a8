import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from distill.errors import RecipeError
from distill.objectives import DadpoSettings, dadpo_loss, dadpo_quantities, dpo_loss, length_normalised
from distill.settings import validated
from tests import references
from tests.strategies import pair_log_probs

BETAS = st.floats(1e-3, 2.0)
PUBLISHED = (-20.0, -18.0, -22.0, -17.0, -12.0, -30.0)


def one(*values: float) -> list[torch.Tensor]:
    return [torch.tensor([value], dtype=torch.float64) for value in values]


@pytest.mark.parametrize(
    ("beta_reference", "beta_teacher", "margin", "loss", "slope"),
    [
        (0.1, 0.0, 0.300000, 0.554355, 0.042556),
        (0.1, 0.05, -0.700000, 1.103186, 0.100228),
        (0.05, 0.1, -1.850000, 1.996035, 0.129619),
        (0.0, 0.1, -2.000000, 2.126928, 0.088080),
    ],
)
def test_loss_meets_the_test_vectors(beta_reference, beta_teacher, margin, loss, slope):
    """D[policy] = -2, D[reference] = -5, D[teacher] = 18: M = 3 beta_reference - 20 beta_teacher, delta_te = 23.

    Loss ln(1 + e^-M); slope (beta_reference + beta_teacher) / (1 + e^M) in the chosen log-prob, downward.
    """
    terms = one(*PUBLISHED)
    terms[0].requires_grad_()
    betas = {"beta_reference": beta_reference, "beta_teacher": beta_teacher}
    values = dadpo_loss(*terms, **betas)
    values.sum().backward()
    quantities = dadpo_quantities(*terms, **betas)
    assert quantities["margin"].item() == pytest.approx(margin, abs=1e-6)
    assert quantities["delta_te"].item() == pytest.approx(23.0)
    assert values.item() == pytest.approx(loss, abs=1e-6)
    assert -terms[0].grad.item() == pytest.approx(slope, abs=1e-6)
    assert (beta_reference + beta_teacher) * quantities["pair_weight"].item() == pytest.approx(slope, abs=1e-6)


@given(pair_log_probs(6), BETAS, BETAS)
def test_loss_agrees_with_the_reference(terms, beta_reference, beta_teacher):
    pw, pl, rw, rl, tw, tl = (term.tolist() for term in terms)
    betas = {"beta_reference": beta_reference, "beta_teacher": beta_teacher}
    expected = [references.dadpo((pw[i], pl[i]), (rw[i], rl[i]), (tw[i], tl[i]), **betas) for i in range(len(pw))]
    torch.testing.assert_close(
        dadpo_loss(*terms, **betas), torch.tensor(expected, dtype=torch.float64), rtol=1e-9, atol=1e-9
    )


@given(pair_log_probs(6), BETAS, BETAS)
def test_the_three_forms_of_the_margin_agree(terms, beta_reference, beta_teacher):
    """Two regularised log-ratios; one ratio of powers for each answer; DPO's margin less the teacher's offset."""
    pw, pl, rw, rl, tw, tl = terms
    both = beta_reference + beta_teacher
    of_powers = (both * pw - beta_reference * rw - beta_teacher * tw) - (
        both * pl - beta_reference * rl - beta_teacher * tl
    )
    delta_te = (tw - rw) - (tl - rl)
    with_offset = both * ((pw - rw) - (pl - rl)) - beta_teacher * delta_te
    quantities = dadpo_quantities(*terms, beta_reference=beta_reference, beta_teacher=beta_teacher)
    torch.testing.assert_close(quantities["margin"], of_powers, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(quantities["margin"], with_offset, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(quantities["delta_te"], delta_te, rtol=1e-9, atol=1e-9)


@given(pair_log_probs(6), BETAS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_without_its_teacher_dadpo_is_dpo_bit_for_bit(dtype, terms, beta):
    terms = [term.to(dtype) for term in terms]
    loss = dadpo_loss(*terms, beta_reference=beta, beta_teacher=0.0)
    assert torch.equal(loss, dpo_loss(*terms[:4], beta=beta))


@given(pair_log_probs(6), BETAS)
def test_without_its_reference_dadpo_is_dpo_from_the_teacher(terms, beta):
    loss = dadpo_loss(*terms, beta_reference=0.0, beta_teacher=beta)
    assert torch.equal(loss, dpo_loss(terms[0], terms[1], terms[4], terms[5], beta=beta))


@given(pair_log_probs(6), BETAS, BETAS)
def test_a_teacher_like_the_reference_only_adds_up_the_betas(terms, beta_reference, beta_teacher):
    policy_and_reference = terms[:4]
    loss = dadpo_loss(
        *policy_and_reference, terms[2], terms[3], beta_reference=beta_reference, beta_teacher=beta_teacher
    )
    expected = dpo_loss(*policy_and_reference, beta=beta_reference + beta_teacher)
    torch.testing.assert_close(loss, expected, rtol=1e-9, atol=1e-9)


@given(pair_log_probs(6), st.floats(-200.0, 200.0))
def test_a_constant_on_both_teacher_log_probs_changes_nothing(terms, constant):
    """The partition function of a prompt cancels in the difference; the same holds of policy and reference."""
    for first in (0, 2, 4):
        shifted = [term + constant if first <= i < first + 2 else term for i, term in enumerate(terms)]
        torch.testing.assert_close(dadpo_loss(*shifted), dadpo_loss(*terms), rtol=1e-9, atol=1e-9)
        before, after = dadpo_quantities(*terms)["delta_te"], dadpo_quantities(*shifted)["delta_te"]
        torch.testing.assert_close(after, before, rtol=1e-9, atol=1e-9)


@given(pair_log_probs(6))
def test_delta_te_does_not_depend_on_the_policy_and_turns_round_with_the_answers(terms):
    delta_te = dadpo_quantities(*terms)["delta_te"]
    moved = [terms[0] * 3.0, terms[1] - 50.0, *terms[2:]]
    assert torch.equal(dadpo_quantities(*moved)["delta_te"], delta_te)
    swapped = [terms[i] for i in (1, 0, 3, 2, 5, 4)]
    torch.testing.assert_close(dadpo_quantities(*swapped)["delta_te"], -delta_te)


@given(pair_log_probs(4), BETAS, BETAS)
def test_at_the_start_the_margin_is_the_teachers_offset(terms, beta_reference, beta_teacher):
    """policy = reference leaves M = -beta_teacher delta_te."""
    reference, teacher = terms[:2], terms[2:]
    quantities = dadpo_quantities(
        *reference, *reference, *teacher, beta_reference=beta_reference, beta_teacher=beta_teacher
    )
    torch.testing.assert_close(quantities["margin"], -beta_teacher * quantities["delta_te"], rtol=1e-9, atol=1e-9)


@given(pair_log_probs(6), BETAS, BETAS)
def test_gradient_is_the_pair_weight_times_both_betas(terms, beta_reference, beta_teacher):
    """grad L = -(b1 + b2) sg(b2 delta_te - (b1 + b2) D[log(policy / reference)]) (grad chosen - grad rejected)."""
    policy = [term.clone().requires_grad_() for term in terms[:2]]
    dadpo_loss(*policy, *terms[2:], beta_reference=beta_reference, beta_teacher=beta_teacher).sum().backward()
    pw, pl, rw, rl, tw, tl = terms
    delta_te, both = (tw - rw) - (tl - rl), beta_reference + beta_teacher
    weight = torch.sigmoid(beta_teacher * delta_te - both * ((pw - rw) - (pl - rl)))
    torch.testing.assert_close(policy[0].grad, -both * weight)
    torch.testing.assert_close(policy[1].grad, both * weight)


def test_gradient_is_that_of_finite_differences():
    generator = torch.manual_seed(3)
    terms = [torch.randn(4, dtype=torch.float64, generator=generator) for _ in range(6)]
    policy = [term.requires_grad_() for term in terms[:2]]
    assert torch.autograd.gradcheck(
        lambda w, r: dadpo_loss(w, r, *terms[2:], beta_reference=0.3, beta_teacher=0.8), policy
    )


def test_minimising_over_labelled_pairs_finds_the_optimal_policy():
    """Bradley-Terry labels of a known reward r over all ordered pairs of five answers lead to

    pi* = pi_ref^(b1/(b1+b2)) pi_te^(b2/(b1+b2)) exp(r / (b1+b2)) / Z.
    """
    beta_reference, beta_teacher, both = 0.3, 0.5, 0.8
    generator = torch.manual_seed(4)
    reference, teacher = torch.randn(2, 5, dtype=torch.float64, generator=generator).log_softmax(-1)
    reward = torch.randn(5, dtype=torch.float64, generator=generator)
    chosen, rejected = (torch.arange(25) // 5, torch.arange(25) % 5)
    label_share = torch.sigmoid(reward[chosen] - reward[rejected])
    logits = torch.zeros(5, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([logits], max_iter=50, tolerance_grad=1e-9, tolerance_change=0.0)

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        terms = [x[i] for x in (logits.log_softmax(-1), reference, teacher) for i in (chosen, rejected)]
        losses = dadpo_loss(*terms, beta_reference=beta_reference, beta_teacher=beta_teacher)
        total = (label_share * losses).sum()
        total.backward()
        return total

    optimizer.step(closure)
    optimal = ((beta_reference * reference + beta_teacher * teacher + reward) / both).softmax(-1)
    torch.testing.assert_close(logits.detach().softmax(-1), optimal, rtol=0, atol=1e-6)


def test_only_the_policy_carries_a_gradient():
    terms = [term.requires_grad_() for term in one(*PUBLISHED)]
    dadpo_loss(*terms).sum().backward()
    assert [term.grad is not None for term in terms] == [True, True, False, False, False, False]


def test_a_term_with_beta_zero_is_not_read():
    policy, other, absent = one(-20, -18), one(-22, -17), one(-math.inf, math.nan)
    without_teacher = {"beta_reference": 0.1, "beta_teacher": 0.0}
    without_reference = {"beta_reference": 0.0, "beta_teacher": 0.1}
    assert dadpo_loss(*policy, *other, *absent, **without_teacher).isfinite()
    assert dadpo_loss(*policy, *absent, *other, **without_reference).isfinite()
    assert dadpo_quantities(*policy, *other, *absent, **without_teacher)["margin"].isfinite()
    assert dadpo_quantities(*policy, *absent, *other, **without_reference)["margin"].isfinite()


def test_a_rejected_answer_that_the_teacher_rules_out_is_pushed_away_as_hard_as_can_be():
    """delta_te = +inf: the loss is +inf and the slopes are the whole beta, not nan."""
    terms = one(-20, -18, -22, -17, -12, -math.inf)
    policy = [term.requires_grad_() for term in terms[:2]]
    loss = dadpo_loss(*terms, beta_reference=0.1, beta_teacher=0.1)
    loss.sum().backward()
    assert loss.item() == math.inf
    torch.testing.assert_close(policy[0].grad, one(-0.2)[0])
    torch.testing.assert_close(policy[1].grad, one(0.2)[0])


def test_narrow_log_probs_are_widened():
    terms = [torch.tensor([value], dtype=torch.bfloat16) for value in PUBLISHED]
    assert dadpo_loss(*terms).dtype == torch.float32
    assert {value.dtype for value in dadpo_quantities(*terms).values()} == {torch.float32}


def test_quantities_known_answer():
    """b1 = b2 = 0.1. Chosen: 0.1 * 2 + 0.1 * (-8) = -0.6. Rejected: 0.1 * (-1) + 0.1 * 12 = 1.1. Margin -1.7."""
    quantities = dadpo_quantities(*one(*PUBLISHED), beta_reference=0.1, beta_teacher=0.1)
    expected = {
        "margin": -1.7,
        "pair_weight": 1 / (1 + math.exp(-1.7)),
        "accuracy": 0.0,
        "chosen_reward": -0.6,
        "rejected_reward": 1.1,
        "delta_te": 23.0,
    }
    assert quantities.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(quantities[name], one(value)[0])


def test_quantities_carry_no_gradient():
    terms = [term.requires_grad_() for term in one(*PUBLISHED)]
    assert not any(value.requires_grad for value in dadpo_quantities(*terms).values())


def test_terms_may_be_given_by_name():
    names = [
        f"{model}_{answer}_log_probs"
        for model in ("policy", "reference", "teacher")
        for answer in ("chosen", "rejected")
    ]
    by_name = dict(zip(names, one(*PUBLISHED), strict=True))
    assert torch.equal(dadpo_loss(**by_name), dadpo_loss(*one(*PUBLISHED)))


@pytest.mark.parametrize("function", [dadpo_loss, dadpo_quantities])
def test_betas_must_have_a_positive_sum(function):
    with pytest.raises(
        RecipeError, match="beta_reference and beta_teacher are both 0\nwhy: their sum must be positive"
    ):
        function(*one(*PUBLISHED), beta_reference=0.0, beta_teacher=0.0)


@pytest.mark.parametrize("beta", [-0.1, math.nan, math.inf])
@pytest.mark.parametrize("name", ["beta_reference", "beta_teacher"])
def test_a_beta_must_be_finite_and_not_negative(name, beta):
    with pytest.raises(RecipeError, match=f"{name} is {beta}\nwhy: it must be finite and not negative"):
        dadpo_loss(*one(*PUBLISHED), **{name: beta})


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"beta_reference": 0, "beta_teacher": 0}, "beta_reference and beta_teacher are both 0.*sum must be positive"),
        ({"beta_teacher": -0.5}, r"beta_teacher is -0\.5.*greater than or equal to 0"),
        ({"beta_techer": 0.5}, r"beta_techer is not a known key \(did you mean beta_teacher\?\)"),
        ({"token_divergence": {"name": "forward_kl"}}, r"token_divergence\.weight is missing"),
    ],
)
def test_settings_refuse_what_the_loss_would(values, message):
    with pytest.raises(RecipeError, match=message):
        validated(DadpoSettings, values, source="recipe")


def test_clip_known_answer():
    """D[policy / reference] = 3, delta_te = 23 cut to 10: M = 0.15 * 3 - 0.1 * 10 = -0.55."""
    betas = {"beta_reference": 0.05, "beta_teacher": 0.1}
    loss = dadpo_loss(*one(*PUBLISHED), **betas, clip=10.0)
    quantities = dadpo_quantities(*one(*PUBLISHED), **betas, clip=10.0)
    torch.testing.assert_close(loss, one(math.log(1 + math.exp(0.55)))[0])
    torch.testing.assert_close(quantities["margin"], one(-0.55)[0])
    torch.testing.assert_close(quantities["pair_weight"], one(1 / (1 + math.exp(-0.55)))[0])
    assert quantities["accuracy"].item() == 0.0
    torch.testing.assert_close(quantities["delta_te"], one(23.0)[0])


@given(pair_log_probs(6), BETAS, BETAS, st.floats(0.5, 300.0))
def test_clipped_loss_agrees_with_the_reference(terms, beta_reference, beta_teacher, clip):
    pw, pl, rw, rl, tw, tl = (term.tolist() for term in terms)
    given_to_both = {"beta_reference": beta_reference, "beta_teacher": beta_teacher, "clip": clip}
    expected = [
        references.clipped_dadpo((pw[i], pl[i]), (rw[i], rl[i]), (tw[i], tl[i]), **given_to_both)
        for i in range(len(pw))
    ]
    loss = dadpo_loss(*terms, **given_to_both)
    torch.testing.assert_close(loss, torch.tensor(expected, dtype=torch.float64), rtol=1e-9, atol=1e-9)


@given(pair_log_probs(6), BETAS, BETAS)
def test_a_clip_that_no_pair_reaches_changes_nothing(terms, beta_reference, beta_teacher):
    betas = {"beta_reference": beta_reference, "beta_teacher": beta_teacher}
    torch.testing.assert_close(
        dadpo_loss(*terms, **betas, clip=2000.0), dadpo_loss(*terms, **betas), rtol=1e-9, atol=1e-9
    )
    plain, clipped = dadpo_quantities(*terms, **betas), dadpo_quantities(*terms, **betas, clip=2000.0)
    torch.testing.assert_close(clipped["margin"], plain["margin"], rtol=1e-9, atol=1e-9)


@given(pair_log_probs(6), BETAS, BETAS)
def test_a_clip_of_next_to_nothing_is_dpo_at_both_betas(terms, beta_reference, beta_teacher):
    loss = dadpo_loss(*terms, beta_reference=beta_reference, beta_teacher=beta_teacher, clip=1e-12)
    expected = dpo_loss(*terms[:4], beta=beta_reference + beta_teacher)
    torch.testing.assert_close(loss, expected, rtol=1e-9, atol=1e-9)


def test_a_clip_without_the_teacher_is_not_read():
    terms = [*one(-20, -18, -22, -17), *one(math.nan, math.nan)]
    expected = dpo_loss(*terms[:4], beta=0.1)
    assert torch.equal(dadpo_loss(*terms, beta_reference=0.1, beta_teacher=0.0, clip=5.0), expected)
    assert dadpo_quantities(*terms, beta_reference=0.1, beta_teacher=0.0, clip=5.0)["margin"].isfinite()


def test_a_teacher_that_rules_an_answer_out_is_cut_to_a_finite_offset():
    """delta_te = +inf counts as 5: M = 0.2 * 3 - 0.1 * 5 = 0.1."""
    terms = one(-20, -18, -22, -17, -12, -math.inf)
    quantities = dadpo_quantities(*terms, clip=5.0)
    torch.testing.assert_close(dadpo_loss(*terms, clip=5.0), one(math.log(1 + math.exp(-0.1)))[0])
    torch.testing.assert_close(quantities["margin"], one(0.1)[0])


def test_clipped_gradient_is_that_of_finite_differences():
    generator = torch.manual_seed(13)
    terms = [torch.randn(4, dtype=torch.float64, generator=generator) * 3 for _ in range(6)]
    policy = [term.requires_grad_() for term in terms[:2]]
    assert torch.autograd.gradcheck(
        lambda w, r: dadpo_loss(w, r, *terms[2:], beta_reference=0.3, beta_teacher=0.8, clip=2.0), policy
    )


@pytest.mark.parametrize("function", [dadpo_loss, dadpo_quantities])
@pytest.mark.parametrize("clip", [0.0, -1.0, math.nan, math.inf])
def test_a_clip_must_be_positive(function, clip):
    with pytest.raises(RecipeError, match=f"clip is {clip}\nwhy: it bounds the size of delta_te"):
        function(*one(*PUBLISHED), clip=clip)


def test_length_normalised_known_answer():
    """-12 nats over 4 tokens; an answer without tokens has log-prob 0."""
    values = length_normalised(torch.tensor([-12.0, 0.0], dtype=torch.bfloat16), torch.tensor([4, 0]))
    assert values.dtype == torch.float32
    torch.testing.assert_close(values, torch.tensor([-3.0, 0.0]))


def test_the_guards_are_off_where_a_recipe_says_nothing():
    assert (DadpoSettings().clip, DadpoSettings().length_normalised) == (None, False)
