"""What a recipe may ask of f-DPG."""

import pytest

from distill.errors import RecipeError
from distill.settings import validated
from distill.training.f_dpg_settings import FDpgSettings
from tests.distill.training.f_dpg_examples import HALF_E, f_dpg_settings

LACKS = {"name": "lacks", "value": "!"}
WORDS = {"name": "num_words"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"target": {}}, "the target is the start itself"),
        ({"target": {"always": [WORDS]}}, "always lists num_words, which is not 0 or 1"),
        ({"target": {"moments": [{"feature": LACKS, "mean": 1.0}]}}, "a mean of 1 is a hard constraint"),
        ({"target": {"reward": WORDS, "beta_reference": 0}}, "their sum must be positive"),
        ({"divergences": ["alpha", "alpha"]}, "names one twice"),
        ({"divergences": ["jensen"]}, "did you mean"),
        ({"objective": {"name": "dpo"}}, "objective"),
        ({"num_samples": 1}, "num_samples"),
    ],
)
def test_settings_without_sense_are_refused(changes: dict[str, object], message: str):
    values = {"target": HALF_E, "learning_rate": 1e-3, "max_steps": 1, "global_batch_size": 1} | changes
    with pytest.raises(RecipeError, match=message):
        validated(FDpgSettings, values, source="recipe")


@pytest.mark.parametrize("divergence", ["reverse_kl", "reverse_chi_squared"])
def test_hard_constraints_are_refused_with_divergences_that_they_make_infinite(divergence: str):
    values = {"target": {"always": [LACKS]}, "divergences": ["forward_kl", divergence]}
    values |= {"learning_rate": 1e-3, "max_steps": 1, "global_batch_size": 1}
    with pytest.raises(RecipeError, match=f"{divergence} toward a target with the hard constraint lacks !.*infinite"):
        validated(FDpgSettings, values, source="recipe")


def test_hard_constraints_go_with_the_others():
    names = ["forward_kl", "jensen_shannon", "total_variation", "chi_squared", "alpha"]
    assert f_dpg_settings(target={"always": [LACKS]}, divergences=names).divergences == tuple(names)
