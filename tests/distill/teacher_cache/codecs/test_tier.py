import pytest
from pydantic import ValidationError

from distill.errors import RecipeError
from distill.settings import validated
from distill.teacher_cache.codecs.tier import TierSettings


def test_defaults_are_those_measured_for_the_table():
    tier = TierSettings(codec="exact-int8")
    assert (tier.hidden_dtype, tier.group_size, tier.k, tier.num_samples, tier.seed) == ("bfloat16", 16, 64, 50, 0)


@pytest.mark.parametrize(
    ("codec", "key", "value"),
    [
        ("scores", "hidden_dtype", "float32"),
        ("exact", "group_size", 8),
        ("sampled", "k", 3),
        ("top-k", "num_samples", 7),
        ("exact-int8", "seed", 1),
    ],
)
def test_a_key_that_the_codec_does_not_read_is_refused_by_name(codec, key, value):
    with pytest.raises(ValidationError, match=f"{key} is .*, but codec {codec} does not read it"):
        TierSettings.model_validate({"codec": codec, key: value})


def test_a_key_that_the_codec_reads_is_kept():
    assert TierSettings(codec="top-k", k=3).k == 3


@pytest.mark.parametrize(("key", "value"), [("num_samples", 64), ("num_samples", 0), ("seed", -1), ("k", 0)])
def test_numbers_that_do_not_fit_their_bits_are_refused(key, value):
    codec = "top-k" if key == "k" else "sampled"
    with pytest.raises(RecipeError, match=key):
        validated(TierSettings, {"codec": codec, key: value}, source="recipe")


def test_an_unknown_codec_is_refused_with_the_nearest_name():
    with pytest.raises(RecipeError, match="did you mean sampled"):
        validated(TierSettings, {"codec": "sample"}, source="recipe")
