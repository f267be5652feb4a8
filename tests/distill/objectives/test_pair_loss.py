import dataclasses
import math

import pytest
import torch

from distill.objectives import (
    OBJECTIVES,
    DadpoSettings,
    DpoSettings,
    KdSettings,
    PairTerms,
    TokenDivergenceSettings,
    TokenTerms,
    TokenValues,
    dadpo_loss,
    dadpo_quantities,
    divergence,
    dpo_loss,
    dpo_quantities,
    length_normalised,
    pair_loss,
    pair_means,
    sft_token_loss,
)


def scores() -> list[torch.Tensor]:
    return list(torch.randn(6, 2, dtype=torch.float64, generator=torch.manual_seed(9)) * 20 - 60)


def pair_terms(num_scores: int = 6) -> PairTerms:
    absent = [None] * (6 - num_scores)
    return PairTerms(*scores()[:num_scores], *absent, num_chosen_tokens=torch.tensor([4, 10]))


def token_terms() -> TokenTerms:
    teacher, student = torch.randn(2, 4, 3, dtype=torch.float64, generator=torch.manual_seed(10)).log_softmax(-1)
    return TokenTerms(teacher, student, torch.tensor([0, 0, 1, 1]), torch.tensor([True, False, True, False]))


def test_dpo_pairs_are_dpo_loss():
    settings = DpoSettings(beta=0.3, label_smoothing=0.1, divergence="alpha", alpha=0.2)
    result = pair_loss(settings, pair_terms(4))
    divergence = {"beta": 0.3, "divergence": "alpha", "alpha": 0.2}
    assert torch.equal(result.loss, dpo_loss(*scores()[:4], label_smoothing=0.1, **divergence))
    expected = dpo_quantities(*scores()[:4], **divergence)
    assert result.quantities.keys() == expected.keys()
    assert all(torch.equal(result.quantities[name], value) for name, value in expected.items())


def test_dadpo_pairs_are_dadpo_loss():
    betas = {"beta_reference": 0.02, "beta_teacher": 0.07, "clip": 30.0}
    settings = DadpoSettings(**betas)
    result = pair_loss(settings, pair_terms())
    assert torch.equal(result.loss, dadpo_loss(*scores(), **betas))
    expected = dadpo_quantities(*scores(), **betas)
    assert result.quantities.keys() == expected.keys()
    assert all(torch.equal(result.quantities[name], value) for name, value in expected.items())


def test_kd_pairs_are_the_mean_divergence_of_their_tokens():
    settings = KdSettings(divergence="skew_kl", alpha=0.3, on="rejected")
    result = pair_loss(settings, pair_terms(2), tokens=token_terms())
    tokens = token_terms()
    values = divergence("skew_kl", tokens.teacher_log_probs, tokens.student_log_probs, alpha=0.3)
    expected = pair_means(TokenValues(values, tokens.pair_index, tokens.is_chosen), num_pairs=2, on="rejected")
    assert torch.equal(result.loss, expected)
    assert torch.equal(result.quantities["token_divergence"], expected)


def test_the_token_term_is_added_by_its_weight():
    term = TokenDivergenceSettings(name="reverse_kl", weight=2.5)
    plain = pair_loss(DadpoSettings(), pair_terms())
    result = pair_loss(DadpoSettings(token_divergence=term), pair_terms(), tokens=token_terms())
    tokens = token_terms()
    of_tokens = divergence("reverse_kl", tokens.teacher_log_probs, tokens.student_log_probs)
    values = pair_means(TokenValues(of_tokens, tokens.pair_index, tokens.is_chosen), num_pairs=2)
    torch.testing.assert_close(result.loss, plain.loss + 2.5 * values)
    assert torch.equal(result.quantities["token_divergence"], values)


@pytest.mark.parametrize("name", ["dpo", "dadpo", "kd"])
def test_the_nll_term_is_the_mean_over_the_chosen_answers_tokens(name):
    """Answers of 4 and 10 tokens: the weight times -log-prob / 4 and -log-prob / 10."""
    row = OBJECTIVES[name].settings
    plain = pair_loss(row(), pair_terms(), tokens=token_terms())
    result = pair_loss(row(nll_weight=0.5), pair_terms(), tokens=token_terms())
    nll = -scores()[0] / torch.tensor([4.0, 10.0])
    torch.testing.assert_close(result.loss, plain.loss + 0.5 * nll)
    torch.testing.assert_close(result.quantities["chosen_nll"], nll)
    assert "chosen_nll" not in plain.quantities


@pytest.mark.parametrize("name", ["dpo", "dadpo", "kd", "distillm2", "gkd"])
def test_the_loss_carries_a_gradient_and_the_quantities_none(name):
    terms, tokens = pair_terms(), token_terms()
    for term in (terms.policy_chosen_log_probs, terms.policy_rejected_log_probs, tokens.student_log_probs):
        term.requires_grad_()
    settings = OBJECTIVES[name].settings(**({} if name in ("distillm2", "gkd") else {"nll_weight": 0.1}))
    result = pair_loss(settings, terms, tokens=tokens)
    result.loss.sum().backward()
    carries = terms.policy_chosen_log_probs if name in ("dpo", "dadpo") else tokens.student_log_probs
    assert carries.grad is not None
    assert not any(value.requires_grad for value in result.quantities.values())


def test_pairs_do_not_mix():
    """A nan in pair 1 leaves pair 0 as it was."""
    spoilt = [torch.where(torch.tensor([False, True]), math.nan, term) for term in scores()]
    assert torch.equal(
        pair_loss(DadpoSettings(), PairTerms(*spoilt)).loss[0], pair_loss(DadpoSettings(), pair_terms()).loss[0]
    )


def test_sft_loss_is_the_negative_log_likelihood():
    torch.testing.assert_close(sft_token_loss(torch.tensor([-1.5, 0.0])), torch.tensor([1.5, 0.0]))


def test_values_of_tokens_stand_for_distributions():
    """What was computed chunk by chunk gives the loss that whole distributions give."""
    tokens = token_terms()
    for settings in (KdSettings(), DadpoSettings(token_divergence=TokenDivergenceSettings(weight=0.5))):
        values = divergence("forward_kl", tokens.teacher_log_probs, tokens.student_log_probs)
        chunked = TokenValues(values, tokens.pair_index, tokens.is_chosen)
        whole, result = (pair_loss(settings, pair_terms(), tokens=given) for given in (tokens, chunked))
        torch.testing.assert_close(result.loss, whole.loss)


def test_length_normalised_divides_each_log_prob_by_its_own_tokens():
    """Student and reference by the student's counts; the teacher by its own where its tokenizer is another."""
    counts, own = (torch.tensor([4, 10]), torch.tensor([5, 7])), (torch.tensor([2, 20]), torch.tensor([9, 3]))
    terms = dataclasses.replace(pair_terms(), num_rejected_tokens=counts[1])
    settings = DadpoSettings(length_normalised=True)
    for teacher_counts, given in (
        (counts, terms),
        (own, dataclasses.replace(terms, num_teacher_chosen_tokens=own[0], num_teacher_rejected_tokens=own[1])),
    ):
        divisors = (*counts, *counts, *teacher_counts)
        normalised = [length_normalised(*both) for both in zip(scores(), divisors, strict=True)]
        expected = dadpo_loss(*normalised, beta_reference=0.05, beta_teacher=0.05)
        result = pair_loss(settings, given)
        torch.testing.assert_close(result.loss, expected)
        torch.testing.assert_close(
            result.quantities["delta_te"],
            dadpo_quantities(*normalised, beta_reference=0.05, beta_teacher=0.05)["delta_te"],
        )


def test_answers_of_one_length_only_scale_the_betas():
    """With n tokens everywhere, log-probs over n at beta are log-probs at beta / n."""
    counts = torch.tensor([8, 8])
    terms = dataclasses.replace(pair_terms(), num_chosen_tokens=counts, num_rejected_tokens=counts)
    result = pair_loss(DadpoSettings(beta_reference=0.8, beta_teacher=1.6, length_normalised=True), terms)
    torch.testing.assert_close(result.loss, dadpo_loss(*scores(), beta_reference=0.1, beta_teacher=0.2))
