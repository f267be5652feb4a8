import re
from typing import Annotated, Literal

import pytest
from pydantic import Field, ValidationError

from distill.errors import RecipeError
from distill.settings import Settings, parse_yaml, read_yaml, validated, with_overrides


class DpoSettings(Settings):
    name: Literal["dpo"]
    beta: float = Field(0.1, gt=0)


class SftSettings(Settings):
    name: Literal["sft"]


class TrainSettings(Settings):
    learning_rate: float = Field(gt=0)
    warmup: float = Field(0.1, gt=0.05)
    schedule: Literal["cosine", "linear"] = "cosine"
    objective: Annotated[DpoSettings | SftSettings, Field(discriminator="name")] = SftSettings(name="sft")


class Recipe(Settings):
    train: TrainSettings
    extra: dict[str, TrainSettings] = Field(default_factory=dict)


def checked(train, **others):
    return validated(Recipe, {"train": train, **others}, source="r.yaml")


def test_settings_are_built_and_frozen():
    recipe = checked({"learning_rate": "1e-5", "objective": {"name": "dpo", "beta": 1}})
    assert recipe.train == TrainSettings(learning_rate=1e-5, objective=DpoSettings(name="dpo", beta=1.0))
    with pytest.raises(ValidationError, match="frozen"):
        recipe.train = None


@pytest.mark.parametrize(
    ("train", "message"),
    [
        ({}, r"r\.yaml: train\.learning_rate is missing"),
        ({"learning_rate": 0}, r"train\.learning_rate is 0: must be positive"),
        ({"learning_rate": 1, "warmup": 0}, r"train\.warmup is 0: it should be greater than 0\.05"),
        ({"learning_rate": "fast"}, r"train\.learning_rate is 'fast': it should be a valid number"),
        (
            {"learning_rate": 1, "learningrate": 2},
            r"train\.learningrate is not a known key \(did you mean learning_rate",
        ),
        (
            {"learning_rate": 1, "zzz": 2},
            r"train\.zzz is not a known key \(known keys: learning_rate, objective, schedule, warmup\)",
        ),
        ({"learning_rate": 1, "schedule": "cosin"}, r"train\.schedule is 'cosin': .*\(did you mean cosine\?\)"),
        (
            {"learning_rate": 1, "objective": {"name": "dpo", "beta": 0.0}},
            r"train\.objective\.beta is 0\.0: must be positive",
        ),
        (
            {"learning_rate": 1, "objective": {"name": "dpo", "betta": 1}},
            r"train\.objective\.betta is not a known key \(did you mean beta\?\)",
        ),
        ({"learning_rate": 1, "objective": {"name": "dpoo"}}, r"train\.objective\.name is 'dpoo'.*did you mean dpo\?"),
        ({"learning_rate": 1, "objective": {}}, r"train\.objective\.name is missing \(known: dpo, sft\)"),
        (5, r"train is 5: it should be a valid dictionary"),
    ],
)
def test_wrong_values_are_named_with_their_path(train, message):
    with pytest.raises(RecipeError, match=message):
        checked(train)


def test_all_wrong_values_are_named_at_once():
    with pytest.raises(RecipeError, match=r"train\.learning_rate is missing; train\.warmup is 'x'.*\nfix: correct the"):
        checked({"warmup": "x"})


def test_keys_inside_a_mapping_keep_their_names():
    with pytest.raises(RecipeError, match=r"extra\.mine\.learning_rate is missing"):
        checked({"learning_rate": 1}, extra={"mine": {}})


def test_yaml_is_read_as_a_mapping(tmp_path):
    (tmp_path / "r.yaml").write_text("train: {learning_rate: 0.5}\n", encoding="utf-8")
    assert read_yaml(tmp_path / "r.yaml") == {"train": {"learning_rate": 0.5}}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb: [\n", r"r\.yaml:3 is not YAML"),
        ("a: 1\n\tb: 2\n", r"r\.yaml:2 is not YAML"),
        ("a: !!python/object/apply:os.getcwd []\n", r"r\.yaml:1 is not YAML: could not determine a constructor"),
        ("[1, 2]\n", r"r\.yaml holds a list\nwhy: a mapping of sections was expected"),
        ("", r"r\.yaml holds a NoneType"),
    ],
)
def test_wrong_yaml_is_refused_with_its_line(text, message):
    with pytest.raises(RecipeError, match=message):
        parse_yaml(text, source="r.yaml")


def test_recipes_that_cannot_be_read_are_refused(tmp_path):
    with pytest.raises(RecipeError, match=r"recipe .*none\.yaml does not exist"):
        read_yaml(tmp_path / "none.yaml")
    with pytest.raises(RecipeError, match=r"recipe .* is not a text file\nfix: name a YAML file"):
        read_yaml(tmp_path)


def test_overrides_replace_and_add_and_leave_the_original_alone():
    values = {"train": {"learning_rate": 1, "objective": None}, "seed": 0}
    overrides = ["train.learning_rate=1e-5", "train.objective.name=dpo", "data.path=a b", "seed=[1, 2]", "note="]
    assert with_overrides(values, overrides) == {
        "train": {"learning_rate": "1e-5", "objective": {"name": "dpo"}},
        "seed": [1, 2],
        "data": {"path": "a b"},
        "note": "",
    }
    assert values == {"train": {"learning_rate": 1, "objective": None}, "seed": 0}


def test_an_override_may_hold_an_equals_sign():
    assert with_overrides({}, ["data.path=a=b"]) == {"data": {"path": "a=b"}}


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("seed", r"override 'seed' is not key\.sub=value\nfix: for example train\.learning_rate=1e-5"),
        ("=5", r"override '=5' is not key\.sub=value"),
        ("train..x=5", r"override 'train\.\.x=5' is not key\.sub=value"),
        ("seed.x=5", r"override 'seed\.x=5': seed is 0, not a section"),
        ("seed=[", r"override 'seed=\[': the value is not YAML\nfix: quote it"),
    ],
)
def test_wrong_overrides_are_refused(override, message):
    with pytest.raises(RecipeError, match=message):
        with_overrides({"seed": 0}, [override])


LAUGHS = "a0: &a0 [1, 1]\n" + "\n".join(f"a{i}: &a{i} [{f'*a{i - 1}, ' * 9}1]" for i in range(1, 9))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: !!python/object/apply:os.system [ls]", "r.yaml:1 is not YAML: could not determine a constructor"),
        ("a: 1\nb: 2\na: 3", "r.yaml:3 is not YAML: key a stands twice"),
        ("a: &a {b: *a}", "it holds more than 10,000 values, or itself"),
        (LAUGHS, "it holds more than 10,000 values, or itself"),
        ("a: " + "[" * 1000 + "]" * 1000, "recursion"),
        ("a: 2024-13-45", "month must be in 1..12"),
        ("a: " + "9" * 6000, "4300"),
        ("a: \x00", "not allowed"),
    ],
    ids=["tag", "twice", "itself", "laughs", "deep", "date", "digits", "zero"],
)
def test_hostile_yaml_is_refused(text: str, words: str):
    with pytest.raises(RecipeError, match=re.escape(words)):
        parse_yaml(text, source="r.yaml")


def test_a_key_that_overrides_a_merged_one_is_no_duplicate():
    assert parse_yaml("a: &a {x: 1}\nb: {<<: *a, x: 2}", source="r.yaml")["b"] == {"x": 2}


def test_an_override_that_holds_itself_is_refused():
    with pytest.raises(RecipeError, match="the value is not YAML"):
        with_overrides({}, ["a=&a {b: *a}"])


def test_keys_are_text_even_where_yaml_reads_a_truth_value_or_a_number():
    assert parse_yaml("on: both\n1: x", source="r.yaml") == {"on": "both", "1": "x"}
