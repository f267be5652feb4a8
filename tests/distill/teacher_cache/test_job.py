import logging
from pathlib import Path

import pytest
import torch

from distill.errors import CacheError
from distill.models import LoadedModel
from distill.teacher_cache import TeacherCache
from distill.teacher_cache.codecs import HeadShape
from distill.teacher_cache.job import begin_cache, claim_name, finish
from distill.teacher_cache.manifest import read_manifest
from distill.teacher_cache.scoring import LocalScorer, TeacherIdentity
from distill.teacher_cache.worker import score_sequences, work


def begin(teacher, sequences, settings, folder: Path, *, data_fingerprint: str = "data"):
    return begin_cache(teacher, sequences, settings=settings, output_dir=folder, data_fingerprint=data_fingerprint)


def names_of(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*.safetensors")}


def test_a_beginning_writes_what_all_workers_share(teacher, sequences, small_shards, tmp_path):
    job = begin(teacher, sequences, small_shards(codec=["scores", "exact"]), tmp_path / "c")
    manifest = read_manifest(tmp_path / "c")
    assert manifest == job.manifest
    assert manifest.codecs == ()
    assert [tier.codec for tier in manifest.tiers] == ["scores", "exact"]
    expected = {f"sequences/{shard.name}" for shard in job.plan.shards} | {"head.safetensors"}
    assert names_of(tmp_path / "c") == expected
    assert len(manifest.sequences) == len(job.plan.shards) > 2


def test_the_head_is_stored_only_where_a_tier_is_decoded_with_it(teacher, sequences, small_shards, tmp_path):
    begin(teacher, sequences, small_shards(codec="scores"), tmp_path / "c")
    assert not (tmp_path / "c" / "head.safetensors").exists()
    begin(teacher, sequences, small_shards(codec="exact"), tmp_path / "c")
    assert (tmp_path / "c" / "head.safetensors").exists()


def test_a_second_beginning_joins_the_first(teacher, sequences, small_shards, tmp_path):
    first = begin(teacher, sequences, small_shards(), tmp_path / "c")
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "c").rglob("*.safetensors")}
    assert begin(teacher, sequences, small_shards(), tmp_path / "c").manifest == first.manifest
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_a_beginning_that_was_cut_off_is_begun_again(teacher, sequences, small_shards, tmp_path):
    job = begin(teacher, sequences, small_shards(), tmp_path / "c")
    bare = job.manifest.model_copy(update={"sequences": (), "tiers": (), "head_sha256": None})
    (tmp_path / "c" / "manifest.json").write_text(bare.model_dump_json())
    (tmp_path / "c" / "sequences" / "00001.safetensors").unlink()
    (tmp_path / "c" / "sequences" / ".00001.safetensors.12345678.partial").write_bytes(b"half")
    assert begin(teacher, sequences, small_shards(), tmp_path / "c").manifest == job.manifest
    assert not list((tmp_path / "c").rglob("*.partial"))


@pytest.mark.parametrize(
    ("field", "changes"), [("shard_tokens", {"shard_tokens": 13}), ("max_length_tokens", {"max_length_tokens": 33})]
)
def test_other_settings_in_the_same_folder_are_refused_by_field(
    teacher, sequences, small_shards, tmp_path, field, changes
):
    begin(teacher, sequences, small_shards(), tmp_path / "c")
    with pytest.raises(CacheError, match=rf"{field} is .*, but .* is asked for"):
        begin(teacher, sequences, small_shards(**changes), tmp_path / "c")


def test_other_data_and_another_teacher_are_refused_by_field(teacher, sequences, small_shards, tmp_path):
    begin(teacher, sequences, small_shards(), tmp_path / "c")
    other = LoadedModel(teacher.model, teacher.tokenizer, "other", "other-fingerprint")
    with pytest.raises(CacheError, match="teacher_fingerprint is 'tiny-fingerprint', but 'other-fingerprint' is"):
        begin(other, sequences, small_shards(), tmp_path / "c")
    with pytest.raises(CacheError, match="data_fingerprint is 'data', but 'news' is"):
        begin(teacher, sequences, small_shards(), tmp_path / "c", data_fingerprint="news")
    with pytest.raises(CacheError, match="sequences_fingerprint is"):
        begin(teacher, sequences[1:], small_shards(), tmp_path / "c")


def test_a_tier_with_other_settings_is_refused_by_key(teacher, sequences, small_shards, tmp_path):
    begin(teacher, sequences, small_shards(codec={"codec": "top-k", "k": 8}), tmp_path / "c")
    with pytest.raises(CacheError, match="tier top-k has k 8, but 9 is asked for"):
        begin(teacher, sequences, small_shards(codec={"codec": "top-k", "k": 9}), tmp_path / "c")


def test_batches_of_another_size_are_said_when_a_job_goes_on(teacher, sequences, small_shards, tmp_path, caplog):
    begin(teacher, sequences, small_shards(), tmp_path / "c")
    with caplog.at_level(logging.WARNING):
        begin(teacher, sequences, small_shards(max_batch_tokens=64), tmp_path / "c")
    assert "begun with cache.max_batch_tokens=24 and goes on with 64" in caplog.text
    assert read_manifest(tmp_path / "c").max_batch_tokens == 24


def test_another_version_of_a_library_is_said_when_a_job_goes_on(teacher, sequences, small_shards, tmp_path, caplog):
    begin(teacher, sequences, small_shards(), tmp_path / "c")
    path = tmp_path / "c" / "manifest.json"
    path.write_text(path.read_text().replace(f'"torch": "{torch.__version__}"', '"torch": "0.1"'))
    with caplog.at_level(logging.WARNING):
        begin(teacher, sequences, small_shards(), tmp_path / "c")
    assert "was begun with" in caplog.text


@pytest.mark.parametrize("left", ["sequences", "exact"])
def test_parts_without_manifest_are_refused(teacher, sequences, small_shards, tmp_path, left):
    (tmp_path / "c" / left).mkdir(parents=True)
    with pytest.raises(CacheError, match=r"holds parts of a cache without manifest\.json"):
        begin(teacher, sequences, small_shards(), tmp_path / "c")


def test_no_sequences_make_no_cache(teacher, small_shards, tmp_path):
    with pytest.raises(CacheError, match="no sequences to score"):
        begin(teacher, [], small_shards(), tmp_path / "c")
    assert not (tmp_path / "c").exists()


def test_a_teacher_that_shows_no_head_fills_no_tier_that_needs_one(teacher, sequences, small_shards, tmp_path):
    class Headless(LocalScorer):
        @property
        def head(self):
            return None

    with pytest.raises(CacheError, match=r"cache\.codec asks for exact(.|\n)*shows none"):
        begin(Headless(teacher), sequences, small_shards(codec=["scores", "exact"]), tmp_path / "c")
    assert Headless(teacher).identity == LocalScorer(teacher).identity
    assert isinstance(Headless(teacher).identity, TeacherIdentity)
    assert Headless(teacher).identity.shape == HeadShape(vocab_size=280, hidden_size=32)


def test_nothing_is_complete_before_every_shard_stands(teacher, sequences, small_shards, tmp_path):
    job = begin(teacher, sequences, small_shards(), tmp_path / "c")
    assert not finish(job)
    with pytest.raises(CacheError):
        TeacherCache.open(tmp_path / "c")
    work(job, teacher)
    assert finish(job)
    assert read_manifest(tmp_path / "c").codecs == ("exact",)


def test_who_comes_last_finishes_for_all(teacher, sequences, small_shards, tmp_path):
    first, second = (begin(teacher, sequences, small_shards(), tmp_path / "c") for _ in range(2))
    work(first, teacher)
    assert finish(second)
    written = (tmp_path / "c" / "manifest.json").stat().st_mtime_ns
    assert finish(first)
    assert (tmp_path / "c" / "manifest.json").stat().st_mtime_ns == written


@pytest.mark.parametrize("name", ["exact/00001.safetensors", "head.safetensors", "sequences/00001.safetensors"])
def test_a_damaged_file_is_found_and_written_anew(teacher, sequences, small_shards, tmp_path, caplog, name):
    score = {"settings": small_shards(), "output_dir": tmp_path / "c", "data_fingerprint": "data"}
    score_sequences(teacher, sequences, **score)
    path = tmp_path / "c" / name
    before = path.read_bytes()
    path.write_bytes(before[:-1] + bytes([before[-1] ^ 1]))
    with caplog.at_level(logging.WARNING):
        score_sequences(teacher, sequences, **score)
    assert f"{path} is damaged and is written anew" in caplog.text
    assert path.read_bytes() == before


def test_a_shard_that_was_deleted_is_written_anew(teacher, sequences, small_shards, tmp_path):
    score = {"settings": small_shards(), "output_dir": tmp_path / "c", "data_fingerprint": "data"}
    score_sequences(teacher, sequences, **score)
    path = tmp_path / "c" / "exact" / "00002.safetensors"
    before = path.read_bytes()
    path.unlink()
    score_sequences(teacher, sequences, **score)
    assert path.read_bytes() == before


def test_a_shard_is_claimed_by_tier_and_number(teacher, sequences, small_shards, tmp_path):
    job = begin(teacher, sequences, small_shards(codec="top-k"), tmp_path / "c")
    assert claim_name(job.codecs[0], job.plan.shards[1]) == "top-k-00001"


def test_what_dead_workers_left_is_cleared_away_at_the_end(teacher, sequences, small_shards, tmp_path):
    """One that was killed between its commit and its release leaves a claim that nobody wants any more."""
    job = begin(teacher, sequences, small_shards(), tmp_path / "c")
    work(job, teacher)
    left = [tmp_path / "c" / "claims" / "exact-00001.json", tmp_path / "c" / "exact" / ".00001.json.0123abcd.partial"]
    for path in left:
        path.write_text("{}")
    assert finish(job)
    assert not any(path.exists() for path in left)
