import pytest

from distill.errors import RecipeError
from distill.settings import validated
from eval.energy_settings import RewardStageSettings


def test_a_stage_needs_a_pair_set():
    with pytest.raises(RecipeError, match="pairs"):
        validated(RewardStageSettings, {"pairs": {}}, source="recipe")


def test_wrong_keys_of_a_set_are_named_in_full():
    with pytest.raises(RecipeError, match=r"pairs\.mine\.sauce is not a known key \(did you mean source"):
        validated(RewardStageSettings, {"pairs": {"mine": {"sauce": "files"}}}, source="recipe")
