import shutil
from pathlib import Path

import pytest
import torch

from distill.errors import CacheError, RecipeError
from distill.models import load_model, load_tokenizer
from distill.pipeline.cache import (
    ScoredPairs,
    pairs_of,
    run_cache,
    scored_pairs,
    sequences_of,
    shares_vocabulary,
)
from distill.pipeline.manifest import read_manifest
from distill.pipeline.recipe import load_recipe
from distill.pipeline.run_folder import RunFolder
from distill.pipeline.runner import run_recipe
from distill.progress import read_metrics
from distill.teacher_cache import TeacherCache, inspect


def test_teacher_and_reference_score_both_completions_of_every_pair(finished: RunFolder):
    student = load_model(finished.start_source)
    ids = {sequence.sequence_id for sequence in sequences_of(pairs_of(finished, student.tokenizer))}
    for name in ("teacher", "reference"):
        assert set(TeacherCache.open(finished.stage("cache") / name).sequence_ids) == ids


def test_only_the_teacher_has_distributions(finished: RunFolder):
    teacher, reference = (TeacherCache.open(finished.stage("cache") / name) for name in ("teacher", "reference"))
    assert (teacher.tiers, reference.tiers) == (("exact",), ("scores",))
    sums = teacher.log_probs(teacher.sequence_ids).exp().sum(-1)
    torch.testing.assert_close(sums, torch.ones_like(sums))


def test_the_summary_says_what_was_written(finished: RunFolder):
    told = read_manifest(finished.stage("cache")).summary
    for name, tier in (("teacher", "exact"), ("reference", "scores")):
        figures = inspect(finished.stage("cache") / name)
        assert told[name] == {"tiers": [tier]} | {
            key: figures[key] for key in ("num_sequences", "num_tokens", "size_bytes")
        }


def test_a_second_run_keeps_the_bytes(finished: RunFolder):
    files = sorted(finished.stage("cache").rglob("*.safetensors"))
    before = [path.read_bytes() for path in files]
    run_cache(finished)
    assert [path.read_bytes() for path in files] == before


def test_a_cache_of_another_teacher_is_refused(finished: RunFolder):
    cache = TeacherCache.open(finished.stage("cache") / "teacher")
    other = load_model(finished.start_source).fingerprint
    with pytest.raises(CacheError, match=r"teacher_fingerprint is .* but .* is asked for\nwhy: .*\nfix: "):
        cache.require(teacher_fingerprint=other)


def test_other_tokenizers_are_refused_with_the_difference(tiny_recipe: Path):
    stranger = load_recipe(tiny_recipe, [f"student.path={tiny_recipe.parent / 'stranger'}"])
    with pytest.raises(RecipeError, match=r"teacher and student have different tokenizers: .*\nwhy: objective dadpo"):
        shares_vocabulary(RunFolder(stranger, stranger.recipe.output))


def test_plain_preference_training_needs_no_common_vocabulary(tiny_recipe: Path):
    overrides = [f"student.path={tiny_recipe.parent / 'stranger'}", "train.objective={name: dpo}"]
    stranger = load_recipe(tiny_recipe, overrides)
    assert not shares_vocabulary(RunFolder(stranger, stranger.recipe.output))


@pytest.mark.parametrize("objective", ["{name: kd, divergence: uld}", "{name: dadpo}"])
def test_a_teacher_of_another_tokenizer_scores_the_same_texts_as_its_own_cuts_them(
    finished: RunFolder, tiny_recipe: Path, tmp_path: Path, objective: str
):
    stranger = tiny_recipe.parent / "stranger"
    overrides = [f"student.path={stranger}", f"train.objective={objective}", "cache.codec=[exact]"]
    run = run_recipe(load_recipe(tiny_recipe, [*overrides, f"output={tmp_path / 'run'}"]), until="train")
    pairs = scored_pairs(run, load_tokenizer(stranger))
    assert pairs.teachers is not None
    assert [pair.id for pair in pairs.teachers] == [pair.id for pair in pairs.students]
    teacher, reference = (TeacherCache.open(run.stage("cache") / name) for name in ("teacher", "reference"))
    assert set(teacher.sequence_ids) == {sequence.sequence_id for sequence in sequences_of(pairs.teachers)}
    assert set(reference.sequence_ids) == {sequence.sequence_id for sequence in sequences_of(pairs.students)}
    assert set(teacher.sequence_ids).isdisjoint(reference.sequence_ids)
    rows = read_metrics(run.stage("train") / "metrics.jsonl")
    assert [row["step"] for row in rows if "loss" in row] == [1, 2]


def test_one_tokenizer_cuts_pairs_once(finished: RunFolder):
    tokenizer = load_tokenizer(finished.start_source)
    assert scored_pairs(finished, tokenizer) == ScoredPairs(pairs_of(finished, tokenizer))


def test_a_tier_is_added_without_scoring_the_others_again(finished: RunFolder, tmp_path: Path):
    shutil.copytree(finished.output, tmp_path / "run")
    teacher = tmp_path / "run" / "cache" / "teacher"
    before = {path: path.read_bytes() for path in teacher.rglob("*.safetensors")}
    more = load_recipe(finished.loaded.path, ["cache.codec=[exact,scores]", f"output={tmp_path / 'run'}"])
    run = run_recipe(more, only="cache")
    assert TeacherCache.open(run.stage("cache") / "teacher").tiers == ("exact", "scores")
    assert {path: path.read_bytes() for path in before} == before
