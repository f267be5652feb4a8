from pathlib import Path

import pytest

from distill.cli_principle import alignment_of, steering_overrides
from distill.errors import RecipeError
from distill.pipeline import load_recipe

ROOT = Path(__file__).resolve().parents[2]
RECIPES = ROOT / "recipes"
QUICKSTART, TEACHER = RECIPES / "quickstart.yaml", RECIPES / "embedded" / "teacher.yaml"
HARD = "Say: 'a #1, [b]: {c}'"


def steered(path: Path, verb: str, *given: str, **options):
    overrides = steering_overrides(verb, load_recipe(path, given), **options)
    return load_recipe(path, [*given, *overrides]).recipe


@pytest.mark.parametrize(
    ("verb", "sections"),
    [("run", {"sft", "pairs"}), ("pairs", {"pairs"}), ("sft", {"sft"}), ("evaluate", {"evaluate"})],
)
def test_a_verb_steers_the_answers_it_asks_for(verb: str, sections: set[str]):
    """A text that YAML would read as something else comes through as it is."""
    recipe = steered(QUICKSTART, verb, "export.formats=[safetensors]", principle=HARD, ratio=3.5)
    for name in ("sft", "pairs", "evaluate"):
        alignment = getattr(recipe, name).linear_alignment
        assert (alignment is not None) == (name in sections)
        assert alignment is None or (alignment.principle, alignment.ratio) == (HARD, 3.5)


@pytest.mark.parametrize("verb", ["run", "linear_alignment"])
@pytest.mark.parametrize(("ratio", "ratios"), [(None, (0, 1, 2, 3, 4, 5)), (3.5, (3.5,))])
def test_the_given_principle_is_measured_where_the_recipe_measures_one(
    verb: str, ratio: float | None, ratios: tuple[float]
):
    measured = steered(RECIPES / "linear_alignment.yaml", verb, principle=HARD, ratio=ratio).linear_alignment
    assert (measured.principle, measured.ratios) == (HARD, ratios)


def test_without_a_principle_nothing_is_steered():
    assert steering_overrides("run", load_recipe(QUICKSTART), principle=None, ratio=None) == []
    assert alignment_of(None, None) is None


@pytest.mark.parametrize("ratio", [None, 0.0, 3.0])
def test_the_options_reach_the_settings(ratio: float | None):
    settings = alignment_of("Be kind.", ratio)
    assert settings is not None
    assert (settings.principle, settings.ratio) == ("Be kind.", ratio)


def test_a_recipe_that_asks_no_model_is_refused():
    with pytest.raises(RecipeError, match=r"--principle is given to sft, but teacher.yaml asks no.*\nwhy: .*\nfix: "):
        steered(TEACHER, "sft", principle="Be kind.", ratio=None)
    with pytest.raises(RecipeError, match=r"linear_alignment, but.*\nwhy: it steers the answers of linear_alignment"):
        steered(TEACHER, "linear_alignment", principle="Be kind.", ratio=None)


def test_a_ratio_without_a_principle_is_refused():
    with pytest.raises(RecipeError, match=r"--ratio is 2, and no --principle is given\nwhy: .*\nfix: add"):
        alignment_of(None, 2.0)


def test_an_empty_principle_is_refused():
    with pytest.raises(RecipeError, match="principle is ''"):
        alignment_of("", None)
