import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from distill.errors import CacheError, StageError
from distill.files import locked
from distill.teacher_cache import collect_garbage, read_manifest, verify
from distill.teacher_cache.claim_owner import ClaimOwner
from distill.teacher_cache.gc import is_being_written
from distill.teacher_cache.manifest import LOCK_NAME, tier_path, write_manifest
from tests.distill.teacher_cache.synthetic import Synthetic, synthetic_cache, without_commit

PARTIALS = (
    ".manifest.json.0123abcd.partial",
    "exact/.00000.safetensors.0123abcd.partial",
    "sequences/.x.0123abcd.partial",
)


@pytest.fixture
def made(tmp_path) -> Synthetic:
    return synthetic_cache(tmp_path / "c")


@pytest.fixture
def folder(made) -> Path:
    return made.folder


def aged(path: Path, content: bytes = b"12345", *, age_s: float = 10_000) -> Path:
    """A file that was last written a while ago."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    os.utime(path, (time.time() - age_s,) * 2)
    return path


def found(folder: Path, *, dry_run: bool = True) -> dict[str, str]:
    return {str(g.path.relative_to(folder)): g.reason for g in collect_garbage(folder, dry_run=dry_run)}


def without_tier(folder: Path, codec: str) -> None:
    manifest = read_manifest(folder)
    tiers = tuple(tier for tier in manifest.tiers if tier.codec != codec)
    write_manifest(folder, manifest.model_copy(update={"tiers": tiers}))


def make_old(folder: Path) -> None:
    for path in folder.rglob("*"):
        os.utime(path, (time.time() - 10_000,) * 2)


def test_a_sound_cache_holds_no_garbage(folder):
    make_old(folder)
    assert found(folder, dry_run=False) == {}
    verify(folder)


def test_partial_files_go_wherever_they_lie(folder):
    for name in (
        ".manifest.json.0123abcd.partial",
        "exact/.00000.safetensors.0123abcd.partial",
        "sequences/.x.0123abcd.partial",
    ):
        aged(folder / name)
    expected = dict.fromkeys(
        [
            ".manifest.json.0123abcd.partial",
            "exact/.00000.safetensors.0123abcd.partial",
            "sequences/.x.0123abcd.partial",
        ],
        "partial file",
    )
    assert found(folder) == expected
    garbage = collect_garbage(folder, dry_run=False)
    assert sum(one.size_bytes for one in garbage) == 15
    assert found(folder) == {}
    verify(folder)


def test_a_dry_run_removes_nothing(folder):
    path = aged(folder / "exact" / ".00000.safetensors.0123abcd.partial")
    assert len(collect_garbage(folder, dry_run=True)) == 1
    assert path.exists()


def test_what_was_just_written_is_left_alone(folder):
    aged(folder / ".manifest.json.0123abcd.partial", age_s=0)
    assert found(folder) == {}
    assert len(collect_garbage(folder, dry_run=True, grace_s=0)) == 1


def test_a_tier_that_is_not_listed_goes_with_its_folder(folder):
    without_tier(folder, "top-k")
    make_old(folder)
    assert found(folder, dry_run=False) == dict.fromkeys(
        ["top-k/00000.json", "top-k/00000.safetensors", "top-k/00001.json", "top-k/00001.safetensors"],
        "tier that the manifest does not list",
    )
    assert not (folder / "top-k").exists()
    verify(folder)


def test_shards_and_sequences_beyond_the_plan_go(folder):
    names = ["exact/00002.json", "exact/00002.safetensors", "sequences/00002.safetensors"]
    for name in names:
        aged(folder / name)
    assert list(found(folder)) == names


def test_of_a_tier_under_way_what_is_committed_stays(folder):
    without_commit(folder, "exact", 0)
    make_old(folder)
    aged(tier_path(folder, "exact", 0))
    assert found(folder, dry_run=False) == {"exact/00000.safetensors": "shard that the manifest does not list"}
    assert tier_path(folder, "exact", 1).exists()


def test_a_head_that_no_tier_needs_goes(folder):
    for codec in ("exact", "exact-int8"):
        without_tier(folder, codec)
    write_manifest(folder, read_manifest(folder).model_copy(update={"head_sha256": None}))
    make_old(folder)
    assert found(folder)["head.safetensors"] == "head that the manifest does not list"


def test_files_with_names_of_no_cache_are_never_touched(folder, tmp_path):
    for name in ("notes.txt", "exact/notes.txt", "exact/0.safetensors", "other/00000.safetensors", "claims/notes.txt"):
        aged(folder / name)
    assert found(folder, dry_run=False) == {}


def test_folders_that_are_links_are_not_followed(folder, tmp_path):
    without_tier(folder, "top-k")
    elsewhere = tmp_path / "elsewhere"
    (folder / "top-k").rename(elsewhere)
    make_old(elsewhere)
    (folder / "top-k").symlink_to(elsewhere)
    assert found(folder, dry_run=False) == {}
    assert len(list(elsewhere.iterdir())) == 4


def test_expired_claims_go_and_work_under_a_live_one_stays(folder):
    claim = json.dumps({"worker": "w", "lease_s": 100}).encode()
    aged(folder / "claims" / "00000.json", claim, age_s=101)
    aged(folder / "claims" / "00001.json", claim, age_s=50)
    aged(folder / "claims" / "unreadable.json", b"{", age_s=50)
    aged(folder / "claims" / ".clock.0123abcd")
    aged(folder / "exact" / ".00000.safetensors.0123abcd.partial")
    assert list(found(folder, dry_run=False)) == ["claims/.clock.0123abcd", "claims/00000.json"]
    aged(folder / "claims" / "00001.json", claim, age_s=101)
    (folder / "claims" / "unreadable.json").unlink()
    assert list(found(folder)) == ["claims/00001.json", "exact/.00000.safetensors.0123abcd.partial"]


def test_a_live_claim_says_that_a_cache_is_being_written(folder, tmp_path):
    assert not is_being_written(folder)
    assert not is_being_written(tmp_path / "nowhere")
    claim = json.dumps({"worker": "w", "lease_s": 100}).encode()
    aged(folder / "claims" / "00000.json", claim, age_s=50)
    assert is_being_written(folder)
    aged(folder / "claims" / "00000.json", claim, age_s=101)
    assert not is_being_written(folder)


def test_what_a_killed_driver_or_reader_of_the_clock_left_goes(folder):
    for name in (".ray-0123abcd", ".clock.0123abcd", ".ray-other", ".clock.0123abcd.txt"):
        aged(folder / name)
    assert found(folder, dry_run=False) == {
        ".clock.0123abcd": "probe of the clock",
        ".ray-0123abcd": "marker of a Ray job",
    }
    aged(folder / ".ray-0123abcd", age_s=0)
    assert found(folder) == {}


@pytest.mark.parametrize(
    "lease_s", ["1e999", "NaN", "-Infinity", "1" + "0" * 400, "1" + "0" * 5000, "{}", '"x"', "[" * 9999]
)
def test_a_claim_with_a_lease_that_is_no_time_gets_an_hour(folder, lease_s):
    claim = b'{"worker": "w", "lease_s": ' + lease_s.encode() + b"}"
    aged(folder / "claims" / "00000.json", claim, age_s=3500)
    assert is_being_written(folder)
    aged(folder / "claims" / "00000.json", claim, age_s=3700)
    assert not is_being_written(folder)
    assert list(found(folder)) == ["claims/00000.json"]


def test_a_claim_that_is_a_pipe_or_a_link_is_not_read(folder):
    aged(folder / "claims" / "00000.json", b"").unlink()
    (folder / "claims" / "00000.json").symlink_to("/dev/zero")
    os.mkfifo(folder / "claims" / "00001.json")
    assert is_being_written(folder)
    assert found(folder) == {}


def test_asking_whether_a_cache_is_being_written_writes_nothing_where_nobody_is(folder):
    (folder / "claims").mkdir()
    before = folder.stat().st_mtime_ns
    assert not is_being_written(folder)
    assert folder.stat().st_mtime_ns == before


def test_a_manifest_that_contradicts_itself_costs_no_shard(folder):
    manifest = read_manifest(folder)
    write_manifest(folder, manifest.model_copy(update={"num_shards": 1}))
    make_old(folder)
    with pytest.raises(CacheError, match="totals are not the sums"):
        collect_garbage(folder, dry_run=False)
    assert tier_path(folder, "exact", 1).exists()


def test_the_claim_of_a_process_that_died_here_holds_nothing_up(folder):
    over = subprocess.Popen([sys.executable, "-c", ""])
    over.wait()
    gone = ClaimOwner.here("gone", lease_s=100).model_copy(update={"process_id": over.pid})
    aged(folder / "claims" / "00000.json", gone.model_dump_json().encode(), age_s=1)
    assert not is_being_written(folder)
    assert list(found(folder, dry_run=False)) == ["claims/00000.json"]


def test_a_folder_that_is_no_cache_is_refused(tmp_path):
    path = aged(tmp_path / "exact" / ".00000.safetensors.0123abcd.partial")
    with pytest.raises(CacheError, match="is not a teacher cache"):
        collect_garbage(tmp_path, dry_run=False)
    assert path.exists()
    assert not (tmp_path / LOCK_NAME).exists()


def test_a_cache_that_is_being_begun_is_left_alone(folder):
    with locked(folder / LOCK_NAME), pytest.raises(StageError, match="is in use by another process"):
        collect_garbage(folder, dry_run=True)
