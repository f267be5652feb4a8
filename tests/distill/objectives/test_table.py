import math
from typing import get_args

import pytest
import torch

from distill.errors import RecipeError
from distill.objectives import (
    OBJECTIVES,
    DadpoSettings,
    DpoSettings,
    KdSettings,
    ObjectiveSettings,
    PairTerms,
    SftSettings,
    TokenDivergenceSettings,
    TokenTerms,
    dadpo_loss,
    dadpo_quantities,
    dpo_loss,
    dpo_quantities,
    pair_loss,
    pair_token_divergence,
    sft_token_loss,
)
from distill.settings import Settings, validated


class Section(Settings):
    objective: ObjectiveSettings


class Recipe(Settings):
    train: Section


def scores() -> list[torch.Tensor]:
    return list(torch.randn(6, 2, dtype=torch.float64, generator=torch.manual_seed(9)) * 20 - 60)


def pair_terms(num_scores: int = 6) -> PairTerms:
    absent = [None] * (6 - num_scores)
    return PairTerms(*scores()[:num_scores], *absent, num_chosen_tokens=torch.tensor([4, 10]))


def token_terms() -> TokenTerms:
    teacher, student = torch.randn(2, 4, 3, dtype=torch.float64, generator=torch.manual_seed(10)).log_softmax(-1)
    return TokenTerms(teacher, student, torch.tensor([0, 0, 1, 1]), torch.tensor([True, False, True, False]))


def test_every_objective_stands_under_its_own_name():
    in_union = get_args(get_args(ObjectiveSettings)[0])
    assert {row.settings for row in OBJECTIVES.values()} == set(in_union)
    for name, row in OBJECTIVES.items():
        assert row.settings.model_fields["name"].default == name


@pytest.mark.parametrize(
    ("settings", "examples", "reference", "scores", "distributions", "one_vocabulary"),
    [
        (SftSettings(), "conversations", False, False, False, False),
        (DpoSettings(), "pairs", True, False, False, False),
        (DadpoSettings(), "pairs", True, True, False, True),
        (DadpoSettings(token_divergence=TokenDivergenceSettings(weight=1.0)), "pairs", True, True, True, True),
        (KdSettings(), "pairs", False, False, True, True),
    ],
)
def test_an_objective_asks_for_what_its_formula_reads(
    settings, examples, reference, scores, distributions, one_vocabulary
):
    row = OBJECTIVES[settings.name]
    assert row.examples == examples
    assert row.needs_reference == reference
    assert row.needs_teacher_scores == scores
    assert row.needs_distributions(settings) == distributions
    assert row.needs_one_vocabulary == one_vocabulary


def test_dpo_pairs_are_dpo_loss():
    settings = DpoSettings(beta=0.3, label_smoothing=0.1)
    result = pair_loss(settings, pair_terms(4))
    assert torch.equal(result.loss, dpo_loss(*scores()[:4], beta=0.3, label_smoothing=0.1))
    expected = dpo_quantities(*scores()[:4], beta=0.3)
    assert result.quantities.keys() == expected.keys()
    assert all(torch.equal(result.quantities[name], value) for name, value in expected.items())


def test_dadpo_pairs_are_dadpo_loss():
    settings = DadpoSettings(beta_reference=0.02, beta_teacher=0.07)
    betas = {"beta_reference": 0.02, "beta_teacher": 0.07}
    result = pair_loss(settings, pair_terms())
    assert torch.equal(result.loss, dadpo_loss(*scores(), **betas))
    expected = dadpo_quantities(*scores(), **betas)
    assert result.quantities.keys() == expected.keys()
    assert all(torch.equal(result.quantities[name], value) for name, value in expected.items())


def test_kd_pairs_are_the_mean_divergence_of_their_tokens():
    settings = KdSettings(divergence="skew_kl", alpha=0.3, on="rejected")
    result = pair_loss(settings, pair_terms(2), tokens=token_terms())
    expected = pair_token_divergence(token_terms(), "skew_kl", parameters={"alpha": 0.3}, num_pairs=2, on="rejected")
    assert torch.equal(result.loss, expected)
    assert torch.equal(result.quantities["token_divergence"], expected)


def test_the_token_term_is_added_by_its_weight():
    term = TokenDivergenceSettings(name="reverse_kl", weight=2.5)
    plain = pair_loss(DadpoSettings(), pair_terms())
    result = pair_loss(DadpoSettings(token_divergence=term), pair_terms(), tokens=token_terms())
    values = pair_token_divergence(token_terms(), "reverse_kl", parameters={}, num_pairs=2)
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


@pytest.mark.parametrize("name", ["dpo", "dadpo", "kd"])
def test_the_loss_carries_a_gradient_and_the_quantities_none(name):
    terms, tokens = pair_terms(), token_terms()
    for term in (terms.policy_chosen_log_probs, terms.policy_rejected_log_probs, tokens.student_log_probs):
        term.requires_grad_()
    settings = OBJECTIVES[name].settings(nll_weight=0.1)
    result = pair_loss(settings, terms, tokens=tokens)
    result.loss.sum().backward()
    assert terms.policy_chosen_log_probs.grad is not None
    assert not any(value.requires_grad for value in result.quantities.values())


def test_pairs_do_not_mix():
    """A nan in pair 1 leaves pair 0 as it was."""
    spoilt = [torch.where(torch.tensor([False, True]), math.nan, term) for term in scores()]
    assert torch.equal(
        pair_loss(DadpoSettings(), PairTerms(*spoilt)).loss[0], pair_loss(DadpoSettings(), pair_terms()).loss[0]
    )


def test_sft_loss_is_the_negative_log_likelihood():
    torch.testing.assert_close(sft_token_loss(torch.tensor([-1.5, 0.0])), torch.tensor([1.5, 0.0]))


@pytest.mark.parametrize(
    ("objective", "message"),
    [
        ({"name": "dpo", "beta": 0.0}, r"train\.objective\.beta is 0.*must be positive"),
        ({"name": "dpo", "bta": 1}, r"train\.objective\.bta is not a known key \(did you mean beta\?\)"),
        ({"name": "dadpo", "beta": 1}, r"train\.objective\.beta is not a known key \(did you mean beta_"),
        ({"name": "dadpoo"}, r"train\.objective\.name is 'dadpoo', which is not known \(did you mean dadpo\?\)"),
        ({"name": "zzz"}, r"train\.objective\.name is 'zzz', which is not known \(known: sft, dpo, dadpo, kd\)"),
        ({"beta": 1}, r"train\.objective\.name is missing \(known: sft, dpo, dadpo, kd\)"),
        (
            {"name": "dadpo", "beta_reference": 0, "beta_teacher": 0},
            r"train\.objective: beta_reference and beta_teacher are both 0, and their sum must be positive",
        ),
        (
            {"name": "dadpo", "token_divergence": {"name": "skew_kl", "weight": -1}},
            r"train\.objective\.token_divergence\.weight is -1.*must be positive",
        ),
        (
            {"name": "dadpo", "token_divergence": {"weigth": 1}},
            r"train\.objective\.token_divergence\.weigth is not a known key \(did you mean weight\?\)",
        ),
    ],
)
def test_a_wrong_objective_is_named_as_the_recipe_spells_it(objective, message):
    with pytest.raises(RecipeError, match=message):
        validated(Recipe, {"train": {"objective": objective}}, source="recipe.yaml")


def test_an_objective_is_chosen_by_its_name():
    section = validated(Section, {"objective": {"name": "dadpo", "beta_teacher": 0.1}}, source="recipe.yaml")
    assert section.objective == DadpoSettings(beta_reference=0.05, beta_teacher=0.1)
