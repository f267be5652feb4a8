import json
from pathlib import Path

import pytest

from distill.errors import CacheError
from distill.teacher_cache import TierManifest, inspect, read_manifest, verify
from distill.teacher_cache.manifest import record_path, sequences_path, tier_path, write_manifest
from tests.distill.teacher_cache.synthetic import ALL_TIERS, forged, synthetic_cache, without_commit


@pytest.fixture
def folder(tmp_path) -> Path:
    return synthetic_cache(tmp_path / "c").folder


def flipped(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))


def test_inspect_gives_the_figures_of_a_cache(folder):
    figures = inspect(folder)
    files = list(folder.rglob("*.safetensors"))
    assert (figures["num_shards"], figures["num_sequences"], figures["num_tokens"]) == (2, 5, 15)
    assert figures["size_bytes"] == sum(path.stat().st_size for path in files)
    assert figures["head_bytes"] == (folder / "head.safetensors").stat().st_size
    assert figures["is_complete"]
    assert (figures["vocab_size"], figures["template_hash"]) == (40, "template")
    json.dumps(figures)


def test_inspect_tells_the_tiers_apart(folder):
    """A score is 4 bytes; float32 states of 8 coordinates are 32; headers come on top."""
    tiers = {tier["codec"]: tier for tier in inspect(folder)["tiers"]}
    assert list(tiers) == [settings.codec for settings in ALL_TIERS]
    header = tier_path(folder, "scores", 0).stat().st_size - 4 * 8
    assert tiers["scores"]["size_bytes"] == pytest.approx(2 * header + 4 * 15, abs=4)
    assert tiers["scores"]["bytes_per_token"] == tiers["scores"]["size_bytes"] / 15
    assert tiers["exact"]["settings"] == {"hidden_dtype": "float32"}
    assert tiers["sampled"]["num_finished_shards"] == 2
    assert all(tier["is_complete"] for tier in tiers.values())


def test_inspect_counts_what_is_done_of_a_tier_under_way(folder):
    without_commit(folder, "exact", 0)
    figures = inspect(folder)
    tier = next(tier for tier in figures["tiers"] if tier["codec"] == "exact")
    assert (tier["is_complete"], tier["num_finished_shards"]) == (False, 1)
    assert tier["size_bytes"] == tier_path(folder, "exact", 1).stat().st_size
    record_path(folder, "exact", 1).unlink()
    tier = next(tier for tier in inspect(folder)["tiers"] if tier["codec"] == "exact")
    assert (tier["num_finished_shards"], tier["bytes_per_token"]) == (0, None)
    assert not figures["is_complete"]


def test_verify_passes_a_sound_cache_and_its_finished_tiers(folder):
    assert verify(folder) == inspect(folder)
    without_commit(folder, "exact", 0)
    assert verify(folder) == inspect(folder)


def test_a_plan_of_absurd_size_is_refused_before_it_is_counted_through(folder):
    """A tier under way is looked up shard by shard; so many would take for ever."""
    manifest = read_manifest(folder)
    tiers = (TierManifest(settings=ALL_TIERS[0]),)
    write_manifest(folder, manifest.model_copy(update={"tiers": tiers, "num_shards": 2**60}))
    for ask in (inspect, verify):
        with pytest.raises(CacheError, match="totals are not the sums"):
            ask(folder)
    write_manifest(folder, manifest.model_copy(update={"tiers": tiers, "num_shards": 2**60, "sequences": ()}))
    assert inspect(folder)["size_bytes"] == (folder / "head.safetensors").stat().st_size


def test_verify_refuses_a_cache_of_which_no_tier_is_done(folder):
    manifest = read_manifest(folder)
    tiers = (TierManifest(settings=ALL_TIERS[0]),)
    write_manifest(folder, manifest.model_copy(update={"tiers": tiers}))
    with pytest.raises(CacheError, match="is not finished: scores: 2 of 2 shards"):
        verify(folder)


def test_verify_names_every_damaged_file(folder):
    names = ("exact/00000.safetensors", "sampled/00001.safetensors", "sequences/00001.safetensors", "head.safetensors")
    for name in names:
        flipped(folder / name)
    with pytest.raises(CacheError, match="4 of its files are damaged") as caught:
        verify(folder)
    for name in names:
        assert name in caught.value.what
    assert "exact/00001.safetensors" not in caught.value.what


def test_verify_finds_numbers_that_are_not_finite(folder):
    path = tier_path(folder, "logits-bf16", 1)
    path.write_bytes(path.read_bytes()[:-2] + b"\xff\xff")
    forged(folder, path)
    with pytest.raises(CacheError, match=r"logits-bf16/00001\.safetensors .* are no logits-bf16"):
        verify(folder)


def test_verify_finds_a_sequence_that_stands_in_two_shards(folder):
    first, second = (sequences_path(folder, number).read_bytes() for number in (0, 1))
    sequences_path(folder, 1).write_bytes(second[:-32] + first[-32:])
    forged(folder, sequences_path(folder, 1))
    with pytest.raises(CacheError, match=r"sequences/00001\.safetensors .* stands in another shard too"):
        verify(folder)
