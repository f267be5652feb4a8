import json
import os
import random
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from distill.errors import CacheError
from distill.teacher_cache import CodecName, TeacherCache, read_manifest
from distill.teacher_cache.manifest import sequences_path, tier_path, write_manifest
from distill.teacher_cache.opening import open_sequences, open_tier_shard
from tests.distill.teacher_cache.synthetic import ALL_TIERS, Synthetic, forged, own_copy, synthetic_cache

CODECS = [settings.codec for settings in ALL_TIERS]


@pytest.fixture(scope="module")
def cache(tmp_path_factory) -> Synthetic:
    return synthetic_cache(tmp_path_factory.mktemp("cache") / "c")


def opened(folder: Path, codec: str, *, checks_checksum: bool) -> None:
    manifest = read_manifest(folder)
    open_sequences(folder, manifest, 0, checks_checksum=checks_checksum)
    tier = manifest.tier(codec)
    assert tier is not None
    open_tier_shard(folder, manifest, manifest.codec_of(tier.settings), 0, checks_checksum=checks_checksum)


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("checks_checksum", [True, False])
def test_sound_files_open(cache, codec, checks_checksum):
    opened(cache.folder, codec, checks_checksum=checks_checksum)


@pytest.mark.parametrize("checks_checksum", [True, False])
@pytest.mark.parametrize(
    "place", [lambda folder: sequences_path(folder, 0), lambda folder: tier_path(folder, "exact", 0)]
)
def test_missing_and_cut_off_files_are_named(cache, tmp_path, place, checks_checksum):
    folder = own_copy(cache.folder, tmp_path / "c")
    path = place(folder)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(CacheError, match=rf"{path.parent.name}/00000\.safetensors .* it has \d+ bytes, not \d+"):
        opened(folder, "exact", checks_checksum=checks_checksum)
    path.unlink()
    with pytest.raises(CacheError, match=rf"{path.parent.name}/00000\.safetensors .* the file is missing"):
        opened(folder, "exact", checks_checksum=checks_checksum)


@pytest.mark.parametrize(
    "place", [lambda folder: sequences_path(folder, 0), lambda folder: tier_path(folder, "exact", 0)]
)
def test_a_changed_byte_is_found_by_its_checksum(cache, tmp_path, place):
    folder = own_copy(cache.folder, tmp_path / "c")
    path = place(folder)
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(
        CacheError, match=rf"{path.parent.name}/00000\.safetensors .* its checksum is not the manifest's"
    ):
        opened(folder, "exact", checks_checksum=True)


@pytest.mark.parametrize("codec", ["scores", "exact", "logits-bf16"])
def test_a_nan_is_refused_whatever_the_checksum_says(cache, tmp_path, codec):
    """All bits set are a nan in float32 and in bfloat16."""
    folder = own_copy(cache.folder, tmp_path / "c")
    path = tier_path(folder, codec, 0)
    path.write_bytes(path.read_bytes()[:-4] + b"\xff" * 4)
    forged(folder, path)
    with pytest.raises(CacheError, match=rf"{codec}/00000\.safetensors .* are no {codec}: "):
        opened(folder, codec, checks_checksum=True)


def test_other_counts_than_the_manifests_are_refused(cache, tmp_path):
    folder = own_copy(cache.folder, tmp_path / "c")
    manifest = read_manifest(folder)
    more = {"num_sequences": 4}
    sequences = (manifest.sequences[0].model_copy(update=more), manifest.sequences[1])
    (exact,) = (tier for tier in manifest.tiers if tier.codec == "exact")
    tier = exact.model_copy(update={"shards": (exact.shards[0].model_copy(update=more), exact.shards[1])})
    changes = {"num_sequences": manifest.num_sequences + 1, "sequences": sequences, "tiers": (tier,)}
    write_manifest(folder, manifest.model_copy(update=changes))
    with pytest.raises(CacheError, match="it holds 3 sequences and 8 tokens, not 4 and 8"):
        opened(folder, "exact", checks_checksum=True)


def test_rows_of_another_shard_are_refused_even_with_a_forged_manifest(cache, tmp_path):
    """Both shards of `scores` brought to one size: only the checksum of the sequences inside tells them apart."""
    cache = synthetic_cache(tmp_path / "c", shards=((3, 1), (2, 2)), tiers=ALL_TIERS[:1])
    first, second = (tier_path(cache.folder, "scores", number) for number in (0, 1))
    first.write_bytes(second.read_bytes())
    forged(cache.folder, first)
    with pytest.raises(CacheError, match=r"scores/00000\.safetensors .* its header says"):
        opened(cache.folder, "scores", checks_checksum=True)


# `DISTILL_MUTATED_FILES=10000 pytest tests/distill/teacher_cache/test_opening.py -m slow` looks longer.
NUM_MUTATED = int(os.environ.get("DISTILL_MUTATED_FILES", "2500"))

# What each tier alone is asked for, beside tokens and rows.
READS: dict[CodecName, tuple[str, ...]] = {
    "scores": ("token_log_probs", "sequence_log_probs"),
    "exact": ("token_log_probs", "log_probs", "hidden_states"),
    "exact-int8": ("token_log_probs", "log_probs", "hidden_states"),
    "logits-bf16": ("token_log_probs", "log_probs"),
    "top-k": ("top_k",),
    "sampled": ("samples",),
}
# A tier and a file of a cache that has this tier only.
FILES: list[tuple[CodecName, str]] = [
    *((settings.codec, f"{settings.codec}/00001.safetensors") for settings in ALL_TIERS),
    ("exact", "manifest.json"),
    ("exact", "head.safetensors"),
    ("scores", "sequences/00000.safetensors"),
]


@pytest.fixture(scope="module")
def victims(tmp_path_factory) -> dict[CodecName, Path]:
    """Caches of one tier, whose files one test at a time changes and puts back."""
    folder = tmp_path_factory.mktemp("victims")
    return {tier.codec: synthetic_cache(folder / tier.codec, tiers=[tier]).folder for tier in ALL_TIERS}


def read_everything(folder: Path, codec: CodecName, *, checks_checksums: bool) -> None:
    cache = TeacherCache.open(folder, checks_checksums=checks_checksums)
    ids = cache.sequence_ids
    cache.completion_ids(ids)
    cache.records(codec, ids)
    for name in READS[codec]:
        values = getattr(cache, name)(ids)
        if isinstance(values, torch.Tensor):
            assert not bool(values.isnan().any())


def reading(folder: Path, codec: CodecName, *, checks_checksums: bool) -> str:
    try:
        read_everything(folder, codec, checks_checksums=checks_checksums)
    except CacheError:
        return "refused"
    return "read"


def mutated(content: bytes, draw: random.Random) -> bytes:
    """Some bytes changed (in the header more often than chance would), a part cut out, or doubled."""
    changed = bytearray(content)
    kind = draw.randrange(8)
    start = draw.randrange(min(400, len(changed)) if kind < 3 else len(changed))
    length = draw.randint(1, 8)
    if kind < 6:
        for position in range(start, min(start + length, len(changed))):
            any_byte, syntax = draw.randrange(256), ord(draw.choice("0123456789[]{}"))
            changed[position] = draw.choice((0, 0xFF, 0x7F, 0x80, any_byte, syntax))
    elif kind == 6:
        del changed[start : start + length]
    else:
        changed[start:start] = changed[start : start + length]
    return bytes(changed)


def survived(folder: Path, codec: CodecName, name: str, content: bytes) -> str:
    """Puts `content` in the place of a file; what became of reading: refused with its name, or read, nothing else.

    With checksums no changed byte is ever read. Where the manifest is forged to fit, or is itself what changed, wrong
    numbers may come, but none that is not a number, and no crash, whether the codec looks at them or not.
    """
    path, manifest = folder / name, folder / "manifest.json"
    originals = path.read_bytes(), manifest.read_bytes()
    try:
        path.write_bytes(content)
        if path != manifest and content != originals[0]:
            with pytest.raises(CacheError):
                read_everything(folder, codec, checks_checksums=True)
            if name != "head.safetensors":
                forged(folder, path)
        outcomes = [reading(folder, codec, checks_checksums=checks) for checks in (False, True)]
        return "refused" if "refused" in outcomes else "read"
    finally:
        path.write_bytes(originals[0])
        manifest.write_bytes(originals[1])


@pytest.mark.parametrize(("codec", "name"), FILES)
def test_no_mutated_file_crashes_or_passes_its_checksum(victims, codec, name):
    draw, content = random.Random(name), (victims[codec] / name).read_bytes()
    outcomes = [survived(victims[codec], codec, name, mutated(content, draw)) for _ in range(35)]
    assert "refused" in outcomes


@pytest.mark.slow
@pytest.mark.usefixtures("shapes_unchecked")
@pytest.mark.parametrize(("codec", "name"), FILES)
def test_no_one_of_thousands_of_mutated_files_crashes_or_passes_its_checksum(victims, codec, name):
    draw, content = random.Random(f"slow {name}"), (victims[codec] / name).read_bytes()
    for _ in range(-(-NUM_MUTATED // len(FILES))):
        survived(victims[codec], codec, name, mutated(content, draw))


@given(place=st.sampled_from(FILES), content=st.binary(max_size=300))
def test_no_file_of_any_bytes_crashes(victims, place, content):
    codec, name = place
    survived(victims[codec], codec, name, content)


KEYS = st.sampled_from(["__metadata__", "distill", "records", "ids", "dtype", "shape", "data_offsets"])
JSON = st.recursive(
    st.none() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=4),
)


@given(place=st.sampled_from(FILES), header=JSON)
def test_no_header_of_any_json_crashes(victims, place, header):
    codec, name = place
    text = json.dumps(header).encode()
    survived(victims[codec], codec, name, len(text).to_bytes(8, "little") + text + bytes(64))


NUMBERS = st.integers(0, 2**64) | st.sampled_from([-1, 2**31, 2**32, 2**62, 2**63 - 1, 2**63, 2**64 - 1])
SHARDS = [place for place in FILES if place[1] != "manifest.json"]


@given(place=st.sampled_from(SHARDS), data=st.data())
def test_no_shape_or_offset_in_a_sound_header_crashes(victims, place, data):
    """One field of a real header changed: shape, place or dtype of a tensor; the bytes behind it as they were."""
    codec, name = place
    content = (victims[codec] / name).read_bytes()
    end = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:end])
    tensor = data.draw(st.sampled_from(sorted(header.keys() - {"__metadata__"})))
    changes = {
        "shape": st.lists(NUMBERS, max_size=4) | st.just([1] * 999) | st.permutations([0, 2**63]),
        "data_offsets": st.lists(NUMBERS, min_size=2, max_size=2),
        "dtype": st.sampled_from(["U8", "I8", "I32", "I64", "F32", "BF16", "F64", "BOOL", "F8_E4M3", "none"]),
    }
    field = data.draw(st.sampled_from(sorted(changes)))
    header[tensor][field] = data.draw(changes[field])
    text = json.dumps(header).encode()
    survived(victims[codec], codec, name, len(text).to_bytes(8, "little") + text + content[end:])


@pytest.mark.parametrize("name", ["scores/00001.safetensors", "sequences/00000.safetensors", "head.safetensors"])
@pytest.mark.parametrize("kind", ["pipe", "folder", "/dev/zero", "link to itself", "link to another file"])
def test_what_stands_in_the_place_of_a_file_is_refused_by_name(tmp_path, name, kind):
    codec: CodecName = "exact" if name.startswith("head") else "scores"
    tiers = [tier for tier in ALL_TIERS if tier.codec == codec]
    path = synthetic_cache(tmp_path / "c", tiers=tiers).folder / name
    path.unlink()
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        targets = {"link to itself": path, "link to another file": Path(__file__)}
        path.symlink_to(targets.get(kind, Path(kind)))
    for checks in (True, False):
        with pytest.raises(CacheError, match=name.replace(".", r"\.")):
            read_everything(tmp_path / "c", codec, checks_checksums=checks)


@pytest.mark.parametrize("checks", [True, False])
def test_a_file_that_was_moved_and_linked_back_is_read(tmp_path, checks):
    made = synthetic_cache(tmp_path / "c")
    for name in ("scores/00001.safetensors", "sequences/00000.safetensors"):
        moved = (made.folder / name).rename(tmp_path / name.replace("/", "-"))
        (made.folder / name).symlink_to(moved)
    assert reading(made.folder, "scores", checks_checksums=checks) == "read"
