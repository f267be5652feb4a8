from typing import get_args

import pytest

from distill.errors import RecipeError
from distill.objectives import (
    ALL_TIERS,
    OBJECTIVES,
    WHOLE_TIERS,
    DadpoSettings,
    DistillM2Settings,
    DpoSettings,
    GkdSettings,
    KdSettings,
    ObjectiveSettings,
    SftSettings,
    TokenDivergenceSettings,
)
from distill.settings import Settings, validated

TOKEN_TERM = TokenDivergenceSettings(name="skew_kl", weight=1.0)


class Section(Settings):
    objective: ObjectiveSettings


class Recipe(Settings):
    train: Section


def test_every_objective_stands_under_its_own_name():
    in_union = get_args(get_args(ObjectiveSettings)[0])
    assert {row.settings for row in OBJECTIVES.values()} == set(in_union)
    for name, row in OBJECTIVES.items():
        assert row.settings.model_fields["name"].default == name


@pytest.mark.parametrize(
    ("settings", "examples", "reference", "scores", "tiers", "token_ids"),
    [
        (SftSettings(), "conversations", False, False, (), False),
        (DpoSettings(), "pairs", True, False, (), False),
        (DadpoSettings(), "pairs", True, True, (), False),
        (DadpoSettings(token_divergence=TOKEN_TERM), "pairs", True, True, (*WHOLE_TIERS, "top-k"), True),
        (KdSettings(), "pairs", False, False, ALL_TIERS, True),
        (KdSettings(divergence="reverse_kl"), "pairs", False, False, (*WHOLE_TIERS, "top-k"), True),
        (KdSettings(temperature=2.0), "pairs", False, False, WHOLE_TIERS, True),
        (KdSettings(tier="sampled"), "pairs", False, False, ("sampled",), True),
        (KdSettings(divergence="uld"), "pairs", False, False, (*WHOLE_TIERS, "top-k"), False),
        (DistillM2Settings(), "pairs", False, False, (*WHOLE_TIERS, "top-k"), True),
        (GkdSettings(), "pairs", False, False, (*WHOLE_TIERS, "top-k"), True),
        (GkdSettings(beta=0.0), "pairs", False, False, ALL_TIERS, True),
    ],
)
def test_an_objective_asks_for_what_its_formula_reads(settings, examples, reference, scores, tiers, token_ids):
    row = OBJECTIVES[settings.name]
    assert row.examples == examples
    assert row.needs_reference == reference
    assert row.needs_teacher_scores == scores
    assert row.distribution_tiers(settings) == tiers
    assert row.needs_distributions(settings) == bool(tiers)
    assert row.compares_token_ids(settings) == token_ids


def test_only_what_is_drawn_while_training_needs_a_live_teacher():
    row = OBJECTIVES["gkd"]
    assert [name for name, other in OBJECTIVES.items() if other.teacher == "live teacher"] == ["gkd"]
    shares = {share: GkdSettings(on_policy_share=share) for share in (0.0, 0.5, 1.0)}
    assert [row.needs_live_teacher(settings) for settings in shares.values()] == [False, True, True]
    assert [row.needs_distributions(settings) for settings in shares.values()] == [True, True, False]
    assert not any(row.needs_live_teacher(row.settings()) for name, row in OBJECTIVES.items() if name != "gkd")


def test_the_cache_is_the_teachers_where_anything_is_learned_from_it():
    settings = {"dpo": DpoSettings(), "dadpo": DadpoSettings(), "whole": GkdSettings(on_policy_share=1.0)}
    needs = {name: OBJECTIVES[chosen.name].needs_teacher_cache(chosen) for name, chosen in settings.items()}
    assert needs == {"dpo": False, "dadpo": True, "whole": False}
    assert OBJECTIVES["gkd"].needs_teacher_cache(GkdSettings(on_policy_share=0.5))


@pytest.mark.parametrize(
    ("objective", "message"),
    [
        ({"name": "dpo", "beta": 0.0}, r"train\.objective\.beta is 0.*must be positive"),
        ({"name": "dpo", "bta": 1}, r"train\.objective\.bta is not a known key \(did you mean beta\?\)"),
        ({"name": "dadpo", "beta": 1}, r"train\.objective\.beta is not a known key \(did you mean beta_"),
        ({"name": "dadpoo"}, r"train\.objective\.name is 'dadpoo', which is not known \(did you mean dadpo\?\)"),
        (
            {"name": "zzz"},
            r"train\.objective\.name is 'zzz', which is not known \(known: sft, dpo, dadpo, kd, distillm2, gkd\)",
        ),
        ({"beta": 1}, r"train\.objective\.name is missing \(known: sft, dpo, dadpo, kd, distillm2, gkd\)"),
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
