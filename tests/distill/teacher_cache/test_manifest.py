import json
from pathlib import Path

import pytest

from distill.errors import CacheError
from distill.teacher_cache.manifest import (
    FINGERPRINT_FIELDS,
    CacheManifest,
    ShardRecord,
    read_manifest,
    write_manifest,
)

SHARD = ShardRecord(name="00000.safetensors", sha256="a" * 64, size_bytes=10, num_sequences=2, num_tokens=5)


def manifest(**changes) -> CacheManifest:
    values = {
        "codec": "exact",
        "hidden_dtype": "bfloat16",
        "hidden_size": 8,
        "vocab_size": 20,
        "teacher_fingerprint": "teacher",
        "tokenizer_fingerprint": "tokenizer",
        "template_hash": "template",
        "max_length_tokens": 16,
        "data_fingerprint": "data",
        "sequences_fingerprint": "sequences",
        "shard_tokens": 64,
        "versions": {"torch": "2"},
        "num_shards": 1,
        "num_sequences": 2,
        "num_tokens": 5,
        "head_sha256": "b" * 64,
        "shards": [SHARD.model_dump()],
        "complete": True,
    }
    return CacheManifest.model_validate(values | changes)


def test_a_manifest_reads_back_as_it_was_written(tmp_path: Path):
    write_manifest(tmp_path, manifest())
    assert read_manifest(tmp_path) == manifest()


def test_a_folder_without_manifest_is_no_cache(tmp_path: Path):
    with pytest.raises(CacheError, match=r"is not a teacher cache: manifest\.json is missing"):
        read_manifest(tmp_path)
    with pytest.raises(CacheError, match="is not a teacher cache"):
        read_manifest(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\xff\xfe", "is damaged: not UTF-8"),
        (b"{", "is damaged or of another version: file: Invalid JSON"),
        (b"[]", "is damaged or of another version: file: "),
    ],
)
def test_a_manifest_that_is_no_manifest_is_refused(tmp_path: Path, content: bytes, message: str):
    (tmp_path / "manifest.json").write_bytes(content)
    with pytest.raises(CacheError, match=message):
        read_manifest(tmp_path)


@pytest.mark.parametrize(
    ("key", "value"),
    [("version", 2), ("format", "other"), ("codec", "top-k"), ("vocab_size", 0), ("surprise", 1)],
)
def test_a_manifest_of_another_version_is_refused_by_field(tmp_path: Path, key: str, value: object):
    content = json.loads(manifest().model_dump_json()) | {key: value}
    (tmp_path / "manifest.json").write_text(json.dumps(content))
    with pytest.raises(CacheError, match=f"of another version: {key}: "):
        read_manifest(tmp_path)


def test_a_shard_name_cannot_leave_the_shards_folder(tmp_path: Path):
    content = json.loads(manifest().model_dump_json())
    content["shards"][0]["name"] = "../../secret.safetensors"
    (tmp_path / "manifest.json").write_text(json.dumps(content))
    with pytest.raises(CacheError, match=r"shards\.0\.name"):
        read_manifest(tmp_path)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("teacher_fingerprint", "other"),
        ("tokenizer_fingerprint", "other"),
        ("template_hash", "other"),
        ("max_length_tokens", 32),
        ("data_fingerprint", "other"),
        ("codec", "scores"),
    ],
)
def test_require_names_the_field_that_differs_with_both_values(field: str, value: object):
    own = manifest()
    with pytest.raises(CacheError, match=f"{field} is {getattr(own, field)!r}, but {value!r} is asked for") as caught:
        own.require(folder=Path("c"), **{field: value})
    assert "distill cache RECIPE" in caught.value.fix


def test_require_accepts_what_the_cache_was_made_from():
    own = manifest()
    own.require(folder=Path("c"))
    own.require(folder=Path("c"), teacher_fingerprint="teacher", codec="exact", max_length_tokens=16)


@pytest.mark.parametrize("field", FINGERPRINT_FIELDS)
def test_another_job_is_refused_by_field(field: str):
    own = manifest()
    values = {"codec": "scores", "hidden_dtype": "float32", "max_length_tokens": 17, "shard_tokens": 65}
    other = own.model_copy(update={field: values.get(field, "other")})
    with pytest.raises(CacheError, match=f"{field} is .* is asked for"):
        own.require_same_job(other, folder=Path("c"))


def test_progress_versions_and_totals_do_not_make_another_job():
    own = manifest()
    begun = own.model_copy(update={"shards": (), "complete": False, "versions": {}})
    begun.require_same_job(own, folder=Path("c"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"shards": [SHARD.model_dump()] * 2}, "a shard is listed twice"),
        ({"num_tokens": 6}, "totals are not the sums"),
        ({"num_shards": 2}, "totals are not the sums"),
        ({"head_sha256": None}, "do not fit codec exact"),
        ({"codec": "scores"}, "do not fit codec scores"),
    ],
)
def test_a_manifest_that_contradicts_itself_is_refused(changes, message):
    with pytest.raises(CacheError, match=message):
        manifest(**changes).require_consistent(folder=Path("c"))


def test_a_sound_manifest_is_consistent():
    manifest().require_consistent(folder=Path("c"))
