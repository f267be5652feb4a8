import pytest
from pydantic import ValidationError

from distill.settings import parse_yaml
from distill.teacher_cache.codecs import TierSettings
from distill.teacher_cache.settings import CacheSettings


def tiers(text: str) -> tuple[TierSettings, ...]:
    return CacheSettings.model_validate(parse_yaml(text, source="test")).tiers


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{}", [TierSettings(codec="exact")]),
        ("codec: scores", [TierSettings(codec="scores")]),
        ("codec: [scores, exact]", [TierSettings(codec="scores"), TierSettings(codec="exact")]),
        ("codec: {codec: top-k, k: 8}", [TierSettings(codec="top-k", k=8)]),
        ("codec: [scores, {codec: top-k, k: 8}]", [TierSettings(codec="scores"), TierSettings(codec="top-k", k=8)]),
    ],
)
def test_tiers_are_named_or_described_one_or_many(text, expected):
    assert list(tiers(text)) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("codec: []", "codec is empty"),
        ("codec: [scores, {codec: top-k}, scores]", "codec names scores twice"),
        ("codec: [scores, {codec: scores, k: 8}]", "codec scores does not read it"),
        ("codec: flat", "Input should be"),
        ("lease_s: .inf", "less than or equal to 86400"),
    ],
)
def test_tiers_that_make_no_cache_are_refused(text, message):
    with pytest.raises(ValidationError, match=message):
        tiers(text)


def test_settings_survive_the_way_through_a_written_recipe():
    settings = CacheSettings.model_validate({"codec": ["scores", {"codec": "top-k", "k": 8}]})
    assert CacheSettings.model_validate(settings.model_dump(mode="json")) == settings
