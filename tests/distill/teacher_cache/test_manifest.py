import json
import os
from pathlib import Path

import pytest

from distill.errors import CacheError
from distill.teacher_cache import TierManifest, TierSettings
from distill.teacher_cache.manifest import (
    IDENTITY_FIELDS,
    CacheManifest,
    FileRecord,
    ShardRecord,
    read_manifest,
    record_path,
    sequences_path,
    tier_path,
    write_manifest,
)

SEQUENCES = FileRecord(name="00000.safetensors", sha256="a" * 64, size_bytes=10, num_sequences=2, num_tokens=5)
SHARD = ShardRecord(**SEQUENCES.model_dump() | {"sha256": "c" * 64, "sequences_sha256": "a" * 64})
EXACT = TierManifest(settings=TierSettings(codec="exact"), shards=(SHARD,), complete=True)
SCORES = TierManifest(settings=TierSettings(codec="scores"))


def manifest(**changes) -> CacheManifest:
    values = {
        "hidden_size": 8,
        "vocab_size": 20,
        "teacher_fingerprint": "teacher",
        "tokenizer_fingerprint": "tokenizer",
        "template_hash": "template",
        "max_length_tokens": 16,
        "data_fingerprint": "data",
        "sequences_fingerprint": "sequences",
        "shard_tokens": 64,
        "max_batch_tokens": 128,
        "versions": {"torch": "2"},
        "num_shards": 1,
        "num_sequences": 2,
        "num_tokens": 5,
        "head_sha256": "b" * 64,
        "sequences": (SEQUENCES,),
        "tiers": (EXACT, SCORES),
    }
    return CacheManifest.model_validate(values | changes)


def test_a_manifest_reads_back_as_it_was_written(tmp_path: Path):
    write_manifest(tmp_path, manifest())
    assert read_manifest(tmp_path) == manifest()


def test_a_cache_has_one_folder_a_tier_and_shares_the_numbers():
    assert sequences_path(Path("c"), 7) == Path("c/sequences/00007.safetensors")
    assert tier_path(Path("c"), "top-k", 7) == Path("c/top-k/00007.safetensors")
    assert record_path(Path("c"), "top-k", 7) == Path("c/top-k/00007.json")


def test_a_folder_without_manifest_is_no_cache(tmp_path: Path):
    with pytest.raises(CacheError, match=r"is not a teacher cache: manifest\.json is missing"):
        read_manifest(tmp_path)
    with pytest.raises(CacheError, match="is not a teacher cache"):
        read_manifest(tmp_path / "nowhere")


@pytest.mark.parametrize("content", [b"\xff\xfe", b"{", b"[]", b"", b"[" * 100_000])
def test_a_manifest_that_is_no_manifest_is_refused(tmp_path: Path, content: bytes):
    (tmp_path / "manifest.json").write_bytes(content)
    with pytest.raises(CacheError, match="is damaged or of another version: file: "):
        read_manifest(tmp_path)


@pytest.mark.parametrize("kind", ["pipe", "folder", "/dev/zero", "link to itself"])
def test_a_manifest_that_is_no_plain_file_is_refused_unread(tmp_path: Path, kind: str):
    path = tmp_path / "manifest.json"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        path.symlink_to(path if kind == "link to itself" else kind)
    with pytest.raises(CacheError, match=r"manifest\.json cannot be read: ") as caught:
        read_manifest(tmp_path)
    assert "whether you may read it" in caught.value.fix


def test_a_long_key_makes_no_long_message(tmp_path: Path):
    content = json.loads(manifest().model_dump_json()) | {"x" * 100_000: 1}
    (tmp_path / "manifest.json").write_text(json.dumps(content))
    with pytest.raises(CacheError, match="of another version: xxx") as caught:
        read_manifest(tmp_path)
    assert len(caught.value.what) < 1000


@pytest.mark.parametrize("value", [-1, 0, 2**62 + 1, 10**4000, 1.5, float("nan")])
@pytest.mark.parametrize("key", ["num_tokens", "num_sequences", "num_shards"])
def test_counts_that_no_cache_has_are_refused(tmp_path: Path, key: str, value: float):
    content = json.loads(manifest().model_dump_json()) | {key: value}
    (tmp_path / "manifest.json").write_text(json.dumps(content))
    with pytest.raises(CacheError, match="of another version: "):
        read_manifest(tmp_path)


@pytest.mark.parametrize(
    ("key", "value"),
    [("version", 1), ("version", 3), ("format", "other"), ("vocab_size", 0), ("num_shards", 0), ("surprise", 1)],
)
def test_a_manifest_of_another_version_is_refused_by_field(tmp_path: Path, key: str, value: object):
    content = json.loads(manifest().model_dump_json()) | {key: value}
    (tmp_path / "manifest.json").write_text(json.dumps(content))
    with pytest.raises(CacheError, match=f"of another version: {key}: ") as caught:
        read_manifest(tmp_path)
    assert "reads distill-teacher-cache version 2" in caught.value.why


@pytest.mark.parametrize(
    ("place", "loc"),
    [
        (lambda content: content["sequences"][0], r"sequences\.0\.name"),
        (lambda content: content["tiers"][0]["shards"][0], r"tiers\.0\.shards\.0\.name"),
    ],
)
def test_a_shard_name_cannot_leave_its_folder(tmp_path: Path, place, loc):
    content = json.loads(manifest().model_dump_json())
    place(content)["name"] = "../../secret.safetensors"
    (tmp_path / "manifest.json").write_text(json.dumps(content))
    with pytest.raises(CacheError, match=loc):
        read_manifest(tmp_path)


def test_the_first_field_that_differs_is_named_with_both_values():
    own = manifest()
    own.require_fields({}, folder=Path("c"), fix="f")
    own.require_fields({"template_hash": "template", "max_length_tokens": 16}, folder=Path("c"), fix="f")
    with pytest.raises(CacheError, match="c: template_hash is 'template', but 'other' is asked for") as caught:
        own.require_fields({"template_hash": "other", "max_length_tokens": 17}, folder=Path("c"), fix="do this")
    assert caught.value.fix == "do this"


@pytest.mark.parametrize("field", [*IDENTITY_FIELDS, "head_sha256", "sequences"])
def test_another_job_is_refused_by_field(field: str):
    own = manifest()
    value = getattr(own, field)
    other = {int: lambda: value + 1, str: lambda: "d" * 64, tuple: lambda: (SEQUENCES, SEQUENCES)}[type(value)]()
    with pytest.raises(CacheError, match=f"{field} is .* is asked for"):
        own.require_same_job(own.model_copy(update={field: other}), folder=Path("c"))


def test_tiers_versions_and_what_is_not_written_yet_do_not_make_another_job():
    own = manifest()
    changes = {"tiers": (), "versions": {}, "head_sha256": None, "sequences": ()}
    own.model_copy(update=changes).require_same_job(own, folder=Path("c"))
    own.require_same_job(own.model_copy(update=changes), folder=Path("c"))


def test_a_tier_is_added_once_and_keeps_what_is_done():
    more = manifest().with_tiers([TierSettings(codec="exact"), TierSettings(codec="top-k", k=3)], folder=Path("c"))
    assert [tier.codec for tier in more.tiers] == ["exact", "scores", "top-k"]
    assert more.tier("exact") == EXACT
    assert more.codecs == ("exact",)
    added = more.tier("top-k")
    assert added is not None
    assert not added.complete
    assert more.tier("sampled") is None


def test_a_tier_with_other_settings_is_refused_by_key():
    own = manifest().with_tiers([TierSettings(codec="top-k", k=3)], folder=Path("c"))
    with pytest.raises(CacheError, match="tier top-k has k 3, but 4 is asked for"):
        own.with_tiers([TierSettings(codec="top-k", k=4)], folder=Path("c"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tiers": (EXACT, EXACT)}, "a tier is listed twice"),
        ({"num_tokens": 6}, "totals are not the sums"),
        ({"num_shards": 2}, "totals are not the sums"),
        ({"sequences": ()}, "totals are not the sums"),
        ({"sequences": (SEQUENCES.model_copy(update={"name": "00001.safetensors"}),)}, "not numbered from 0 on"),
        ({"num_shards": 2**40, "tiers": ()}, "totals are not the sums"),
        ({"head_sha256": None}, "tier exact needs the output head"),
        ({"hidden_size": 0}, "tier exact needs the output head"),
        ({"tiers": (EXACT.model_copy(update={"shards": ()}),)}, "tier exact has 0 of 1 shards"),
        *(
            ({"tiers": (EXACT.model_copy(update={"shards": (SHARD.model_copy(update=change),)}),)}, "other sequences")
            for change in ({"name": "00001.safetensors"}, {"num_tokens": 6}, {"sequences_sha256": "d" * 64})
        ),
    ],
)
def test_a_manifest_that_contradicts_itself_is_refused(tmp_path, changes, message):
    with pytest.raises(CacheError, match=message):
        manifest(**changes).require_consistent(folder=Path("c"))
    write_manifest(tmp_path, manifest(**changes))
    with pytest.raises(CacheError, match=message):
        read_manifest(tmp_path)


def test_a_sound_manifest_is_consistent_and_so_is_one_that_is_not_finished():
    manifest().require_consistent(folder=Path("c"))
    manifest(tiers=(SCORES,), sequences=(), head_sha256=None).require_consistent(folder=Path("c"))
