from typing import get_args

import pytest

from distill.objectives import ALL_TIERS, DIVERGENCES, WHOLE_TIERS, tiers_for
from distill.objectives.tiers import TokenLossName, is_forward_kl, require_tier_fits
from distill.teacher_cache import CODECS, DISTRIBUTION_CODECS

F_DIVERGENCES = [name for name in DIVERGENCES if name != "alpha_beta"]


def test_tiers_are_the_caches_codecs_but_for_scores():
    assert set(ALL_TIERS) == set(CODECS) - {"scores"}
    assert WHOLE_TIERS == DISTRIBUTION_CODECS


def test_every_divergence_and_uld_has_a_name():
    assert set(get_args(TokenLossName)) == {*DIVERGENCES, "uld"}


@pytest.mark.parametrize("name", [*F_DIVERGENCES, "uld"])
def test_a_list_of_likeliest_tokens_tells_every_f_divergence_and_uld(name):
    assert tiers_for(name, {}) == (ALL_TIERS if name == "forward_kl" else (*WHOLE_TIERS, "top-k"))


def test_alpha_beta_is_an_f_divergence_only_where_its_powers_add_up_to_one():
    assert tiers_for("alpha_beta", {}) == (*WHOLE_TIERS, "top-k")
    assert tiers_for("alpha_beta", {"alpha": 1.5, "beta": -0.5}) == (*WHOLE_TIERS, "top-k")
    assert tiers_for("alpha_beta", {"alpha": 0.2, "beta": 0.7}) == WHOLE_TIERS


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("forward_kl", {}),
        ("jensen_shannon", {"beta": 0.0}),
        ("skew_kl", {"alpha": 0.0}),
        ("alpha_beta", {"alpha": 1.0, "beta": 0.0}),
    ],
)
def test_drawn_tokens_tell_forward_kl_by_any_name(name, parameters):
    assert is_forward_kl(name, parameters)
    assert tiers_for(name, parameters) == ALL_TIERS
    assert not is_forward_kl(name, dict.fromkeys(parameters, 0.4)) or name == "forward_kl"


def test_only_whole_distributions_know_a_temperature():
    assert tiers_for("forward_kl", {}, temperature=2.0) == WHOLE_TIERS


def test_a_tier_that_cannot_tell_is_refused_with_those_that_can():
    require_tier_fits(None, "reverse_kl", {}, temperature=1.0)
    require_tier_fits("sampled", "forward_kl", {}, temperature=1.0)
    with pytest.raises(ValueError, match=r"tier is sampled, but reverse_kl cannot .* \(use one of exact, .*, top-k\)"):
        require_tier_fits("sampled", "reverse_kl", {}, temperature=1.0)
    with pytest.raises(ValueError, match=r"tier is top-k, but forward_kl at temperature 2 cannot"):
        require_tier_fits("top-k", "forward_kl", {}, temperature=2.0)
