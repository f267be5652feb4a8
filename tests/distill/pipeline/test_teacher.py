from pathlib import Path

import pytest

from distill.data import read_pairs
from distill.errors import CacheError, RecipeError
from distill.models import load_model
from distill.pipeline.cache_sources import SOURCES_NAME
from distill.pipeline.recipe import load_recipe
from distill.pipeline.run_folder import RunFolder
from distill.pipeline.runner import plan, run_recipe
from distill.pipeline.teacher import load_teacher, teacher_behind_server
from distill.pipeline.train import cache_of_teacher
from distill.teacher_cache import TeacherCache
from tests.endpoint_server import NAME, serving


@pytest.fixture(scope="module")
def server(tiny_recipe: Path):
    with serving(load_model(tiny_recipe.parent / "teacher")) as server:
        yield server


@pytest.fixture
def overrides(server, tmp_path: Path) -> list[str]:
    return [
        f"teacher.endpoint={{base_url: '{server.url}', model: {NAME}}}",
        f"output={tmp_path / 'run'}",
        "cache.codec=[scores, {codec: top-k, k: 8}]",
        "train.objective={name: dpo}",
        "export=null",
        "evaluate=null",
    ]


def run_of(recipe: Path, overrides: list[str]) -> RunFolder:
    loaded = load_recipe(recipe, overrides)
    return RunFolder(loaded, loaded.recipe.output)


def test_a_run_with_a_teacher_behind_a_server(tiny_recipe: Path, server, overrides: list[str]):
    """Pairs come from its answers, the cache from its log-probs; then a second run has nothing left to do."""
    run = run_recipe(load_recipe(tiny_recipe, overrides), until="cache")
    assert read_pairs(run.stage("pairs") / "pairs.jsonl")
    cache = TeacherCache.open(run.stage("cache") / "teacher")
    assert set(cache.tiers) == {"scores", "top-k"}
    num_asked = len(server.requests)
    assert num_asked > 0
    run_recipe(load_recipe(tiny_recipe, overrides), until="cache")
    assert len(server.requests) == num_asked


def test_training_takes_the_cache_of_the_served_model_only_and_asks_no_server(
    tiny_recipe: Path, server, overrides: list[str]
):
    run = run_recipe(load_recipe(tiny_recipe, overrides), until="cache")
    overrides = [*overrides, "teacher.endpoint.base_url=http://127.0.0.1:9/v1"]
    assert len(cache_of_teacher(run_of(tiny_recipe, overrides))) > 0
    refused = r"teacher_fingerprint is '[0-9a-f]{64}', but '[0-9a-f]{64}' is asked for\nwhy: "
    with pytest.raises(CacheError, match=refused):
        cache_of_teacher(run_of(tiny_recipe, [*overrides, "teacher.endpoint.model=other"]))
    sources = run.stage("cache") / SOURCES_NAME
    told = sources.read_text()
    assert told.count("owner/tiny-model") == 1
    sources.write_text(told.replace("owner/tiny-model", "owner/another"))
    with pytest.raises(CacheError, match=refused):
        cache_of_teacher(run_of(tiny_recipe, overrides))


def test_a_run_stands_when_its_server_moves_and_not_when_its_model_changes(tiny_recipe: Path, overrides: list[str]):
    identity = run_of(tiny_recipe, overrides).teacher_identity
    moved = ["teacher.endpoint.base_url=http://elsewhere:1/v1", "teacher.endpoint.max_concurrent=3"]
    assert run_of(tiny_recipe, [*overrides, *moved]).teacher_identity == identity
    assert run_of(tiny_recipe, [*overrides, "teacher.endpoint.model=other"]).teacher_identity != identity
    assert run_of(tiny_recipe, [*overrides, "teacher.endpoint=null"]).teacher_identity != identity


def test_a_plan_asks_no_server(tiny_recipe: Path, server, overrides: list[str]):
    num_asked = len(server.requests)
    assert plan(load_recipe(tiny_recipe, [*overrides, "teacher.endpoint.base_url=http://127.0.0.1:9/v1"]))
    assert len(server.requests) == num_asked


def test_a_padded_vocabulary_is_read_from_the_folder_of_the_tokenizer(tiny_recipe: Path, overrides: list[str]):
    run = run_of(tiny_recipe, overrides)
    settings = run.recipe.teacher.endpoint
    assert teacher_behind_server(run, settings).identity.shape.vocab_size >= 280


def test_a_stage_that_needs_weights_says_so(tiny_recipe: Path, overrides: list[str]):
    with pytest.raises(RecipeError, match=r"(?s)endpoint names tiny at http.*weights are needed.*endpoint=null"):
        load_teacher(run_of(tiny_recipe, overrides))


@pytest.mark.parametrize(
    ("override", "problem"),
    [
        ("cache.codec=exact", r"cache.codec asks for exact.*use cache.codec: \[scores, top-k\]"),
        ("cache.codec=[scores, sampled]", "cache.codec asks for sampled"),
        ("evaluate={num_conversations: 2}", "teacher.endpoint is set, but evaluate compares whole distributions"),
        ("student={prune: {ratio: 0.5}}", "student.prune cuts the student out of the teacher's weights"),
        ("teacher.path=null", "exactly one of path"),
        ("teacher.dtype=bfloat16", "teacher: dtype is set beside endpoint"),
        ("teacher.quantization=nf4", "teacher: quantization is set beside endpoint"),
        ("teacher.endpoint.model=null", r"teacher\.endpoint\.model"),
        ("teacher.endpoint.modle=x", r"teacher\.endpoint\.modle is not a known key \(did you mean model\?"),
        ("student.endpoint={base_url: 'http://x/v1', model: m}", r"student\.endpoint is not a known key"),
    ],
)
def test_what_no_server_can_do_is_refused_when_the_recipe_is_read(
    tiny_recipe: Path, overrides: list[str], override: str, problem: str
):
    with pytest.raises(RecipeError, match=problem):
        load_recipe(tiny_recipe, [*overrides, override])


def test_a_teacher_made_by_a_recipe_has_no_server(tiny_recipe: Path, overrides: list[str]):
    with pytest.raises(RecipeError, match="endpoint needs path"):
        load_recipe(tiny_recipe, [*overrides, "teacher.path=null", "teacher.recipe=other.yaml"])
