from pathlib import Path

import pytest

from distill.errors import RecipeError
from distill.pipeline.recipe import load_recipe
from tests.distill.recipe_paths import paths_given

ROOT = Path(__file__).resolve().parents[3]
RECIPES = sorted((ROOT / "recipes").rglob("*.yaml"))

QUICKSTART = ROOT / "recipes" / "quickstart.yaml"
TEACHER = ROOT / "recipes" / "embedded" / "teacher.yaml"


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_every_shipped_recipe_validates(path: Path):
    assert load_recipe(path, paths_given(path, Path("somewhere"))).recipe.description


def test_an_unknown_key_is_refused_with_its_nearest_name():
    with pytest.raises(RecipeError, match=r"train\.learning_rat is not a known key \(did you mean learning_rate\?\)"):
        load_recipe(QUICKSTART, ["train.learning_rat=1e-5"])


def test_a_wrong_type_names_key_and_value():
    with pytest.raises(RecipeError, match=r"train\.learning_rate is 'fast'"):
        load_recipe(QUICKSTART, ["train.learning_rate=fast"])


def test_betas_without_a_positive_sum_are_refused():
    with pytest.raises(RecipeError, match=r"beta_reference.*positive"):
        load_recipe(QUICKSTART, ["train.objective.beta_reference=0", "train.objective.beta_teacher=0"])


def test_a_missing_recipe_is_named():
    with pytest.raises(RecipeError, match=r"nowhere\.yaml does not exist"):
        load_recipe(Path("nowhere.yaml"))


def test_a_recipe_is_a_yaml_file():
    with pytest.raises(RecipeError, match=r"does not end in \.yaml"):
        load_recipe(Path("recipe.json"))


def test_training_from_pairs_needs_a_teacher():
    with pytest.raises(RecipeError, match="train needs a teacher"):
        load_recipe(
            QUICKSTART, ["teacher=null", "pairs=null", "cache=null", "sft.answers=data", "sft.num_prompts=null"]
        )


def test_answers_of_a_teacher_need_a_teacher():
    with pytest.raises(RecipeError, match=r"sft\.answers is teacher"):
        load_recipe(TEACHER, ["sft.answers=teacher"])


def test_only_the_teacher_may_name_the_recipe_that_makes_it():
    with pytest.raises(RecipeError, match=r"student\.recipe is set"):
        load_recipe(QUICKSTART, ["student={recipe: other.yaml}"])


@pytest.mark.parametrize(("missing", "words"), [("pairs", "train needs pairs"), ("cache", "train needs the teacher")])
def test_training_needs_the_stages_before_it(missing: str, words: str):
    with pytest.raises(RecipeError, match=words):
        load_recipe(QUICKSTART, [f"{missing}=null"])


def test_pairs_are_cut_alike_in_cache_and_training():
    with pytest.raises(RecipeError, match=r"train\.max_length_tokens is 128 and cache\.max_length_tokens is 256"):
        load_recipe(QUICKSTART, ["train.max_length_tokens=128"])


def test_paths_of_a_recipe_resolve_against_its_file():
    loaded = load_recipe(QUICKSTART.with_name("qwen2.5-7b-to-1.5b.yaml"))
    assert loaded.recipe.train is not None
    assert loaded.recipe.train.deepspeed is not None
    assert loaded.resolve(loaded.recipe.train.deepspeed).exists()


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["train.objective={name: sft}"], r"train\.objective\.name is sft, but train learns from pairs"),
        (["sft.objective={name: dpo}"], r"sft\.objective\.name is dpo, but sft learns from conversations"),
        (
            ["cache.codec=scores"],
            r"cache\.codec is scores, but objective dadpo here compares whole distributions "
            r"\(add its tier: distill cache RECIPE 'cache\.codec=\[scores,exact\]'\)",
        ),
        (
            ["cache.codec=[scores,sampled]", "train.objective.token_divergence.name=reverse_kl"],
            r"cache\.codec is scores, sampled, but .*codec=\[scores,sampled,exact\]'\)",
        ),
        (
            ["cache.codec=top-k", "train.objective.token_divergence=null"],
            r"cache\.codec is top-k, but objective dadpo here compares log-probs of tokens",
        ),
        (["data.num_test=0"], "data.num_test is 0, but evaluate needs test conversations"),
    ],
)
def test_what_would_fail_in_a_later_stage_is_refused_at_once(overrides: list[str], words: str):
    with pytest.raises(RecipeError, match=words):
        load_recipe(QUICKSTART, overrides)


def test_scores_alone_do_for_the_plain_loss():
    load_recipe(QUICKSTART, ["cache.codec=scores", "train.objective.token_divergence=null"])


def test_a_list_of_likeliest_tokens_will_do_where_the_divergence_can_be_told_from_it():
    loaded = load_recipe(QUICKSTART, ["cache.codec=[scores,top-k]"])
    assert loaded.recipe.cache is not None
    assert [tier.codec for tier in loaded.recipe.cache.tiers] == ["scores", "top-k"]


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (
            [
                "teacher={path: embedded, endpoint: {base_url: 'http://localhost:1/v1', model: m}}",
                "cache.codec=scores",
                "evaluate=null",
            ],
            r"teacher\.endpoint is set, but objective gkd here reads answers that the student draws",
        ),
        (["teacher.placement=zero-3"], r"teacher\.placement is zero-3, but .* \(use teacher\.placement: device-map\)"),
        (["student.tokenizer_vocab_size=400"], r"student\.tokenizer_vocab_size is 400, but .* by the token ids of"),
    ],
)
def test_a_teacher_that_cannot_read_what_the_student_draws_is_refused(overrides: list[str], words: str):
    objective = "train.objective={name: gkd, on_policy_share: 0.5}"
    with pytest.raises(RecipeError, match=words):
        load_recipe(QUICKSTART, [objective, *overrides])
    load_recipe(QUICKSTART, [objective])
