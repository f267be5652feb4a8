from pathlib import Path

import pytest
from pydantic import TypeAdapter

from distill.objectives import DIVERGENCES, OBJECTIVES
from distill.objectives.f_dpo import REWARDS
from distill.objectives.table import ObjectiveSettings
from distill.settings import read_yaml
from eval.objective_arms import ARMS, LEARNING_RATES, Arm, first_of

RECIPE = Path(__file__).resolve().parents[2] / "recipes" / "objectives.yaml"


def test_every_objective_has_an_arm_and_no_two_share_a_name():
    assert {arm.objective_name for arm in ARMS} == set(OBJECTIVES)
    assert len({arm.name for arm in ARMS}) == len(ARMS)


def test_every_divergence_and_every_form_of_dpo_has_an_arm():
    assert {arm.objective.get("divergence") for arm in ARMS if arm.objective_name == "kd"} == {*DIVERGENCES, "uld"}
    forms = {arm.objective.get("divergence", "reverse_kl") for arm in ARMS if arm.objective_name == "dpo"}
    assert forms == set(REWARDS)


@pytest.mark.parametrize("arm", ARMS, ids=lambda arm: arm.name)
def test_an_arm_is_what_a_recipe_takes_and_reads_a_tier_that_the_recipe_caches(arm: Arm):
    settings = TypeAdapter(ObjectiveSettings).validate_python(dict(arm.objective))
    cached = {tier if isinstance(tier, str) else tier["codec"] for tier in read_yaml(RECIPE)["cache"]["codec"]}
    needs = OBJECTIVES[arm.objective_name]
    tiers = needs.distribution_tiers(settings)
    assert set(tiers) <= cached
    named = {tier for tier in cached if f"`{tier}`" in arm.learns_from}
    assert named == {*tiers, *(["scores"] if needs.needs_teacher_scores else [])}
    assert ("reference" in arm.learns_from) == needs.needs_reference
    assert ("live teacher" in arm.learns_from) == needs.needs_live_teacher(settings)


@pytest.mark.parametrize("family", LEARNING_RATES)
def test_the_first_arm_of_a_family_is_its_plainest(family):
    first = first_of(family)
    assert first.family == family
    assert first.name in ("sft", "dadpo", "dadpo + forward_kl, exact", "kd forward_kl")
    assert sorted(LEARNING_RATES[family]) == list(LEARNING_RATES[family])


def test_the_comparison_starts_where_the_quickstart_does():
    own, quickstart = read_yaml(RECIPE), read_yaml(RECIPE.with_name("quickstart.yaml"))
    for section in ("seed", "teacher", "student", "data", "sft", "pairs"):
        assert own[section] == quickstart[section], section
