"""Features of answers: known texts, and what a recipe may not ask."""

import pytest
import torch

from distill.data import Message
from distill.errors import RecipeError
from distill.reward.text_features import FeatureSettings, text_feature
from distill.settings import validated

PROMPT = (Message("user", "A tea, please."),)
ANSWERS = ["Ooh, a tea!", "Noted. One tea.", ""]


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("contains", "!", [1.0, 0.0, 0.0]),
        ("lacks", "!", [0.0, 1.0, 1.0]),
        ("personality", "brisk", [0.0, 1.0, 0.0]),
        ("num_words", None, [3.0, 3.0, 0.0]),
    ],
)
def test_features_of_known_answers(name: str, value: str | None, expected: list[float]):
    feature = text_feature(FeatureSettings(name=name, value=value))
    found = feature.of([PROMPT] * 3, ANSWERS)
    torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float64))
    if feature.settings.is_binary:
        assert set(found.tolist()) <= {0.0, 1.0}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"name": "lacks"}, "value is missing"),
        ({"name": "num_words", "value": "3"}, "num_words reads none"),
        ({"name": "personality", "value": "gloomy"}, "known personalities: warm, brisk, playful"),
        ({"name": "lack", "value": "!"}, "did you mean lacks"),
    ],
)
def test_features_without_sense_are_refused(values: dict[str, object], message: str):
    with pytest.raises(RecipeError, match=message):
        validated(FeatureSettings, values, source="recipe")
