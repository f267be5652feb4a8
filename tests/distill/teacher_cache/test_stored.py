from pathlib import Path

import pytest
import torch

from distill.errors import CacheError
from distill.teacher_cache import read_manifest
from distill.teacher_cache.stored import StoredCache
from tests.distill.teacher_cache.synthetic import Synthetic, own_copy, synthetic_cache


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Synthetic:
    return synthetic_cache(tmp_path_factory.mktemp("cache") / "c")


def stored(folder: Path, *, checks_checksums: bool = True) -> StoredCache:
    return StoredCache(folder, read_manifest(folder), checks_checksums=checks_checksums)


def test_places_tokens_and_rows_belong_together(made):
    cache = stored(made.folder)
    places = cache.places([made.ids[3], made.ids[1]])
    assert list(places) == [(1, 0, 2), (0, 3, 4)]
    tokens = [*made.sequences[3].sequence.completion_ids, *made.sequences[1].sequence.completion_ids]
    assert cache.completion_ids(places).tolist() == tokens
    states = cache.rows("exact", places).records.view(torch.float32)
    torch.testing.assert_close(states, torch.cat([made.hidden_states[3], made.hidden_states[1]]))


def test_the_head_is_the_stored_one_and_widened_once(made):
    cache = stored(made.folder)
    torch.testing.assert_close(cache.head.weight, made.head.weight)
    assert cache.float_head is cache.float_head
    assert cache.float_head.weight.dtype == torch.float32


def test_a_changed_head_is_found_by_its_checksum(made, tmp_path):
    folder = own_copy(made.folder, tmp_path / "c")
    path = folder / "head.safetensors"
    content = path.read_bytes()
    path.write_bytes(content[:-4] + b"\0\0\0\0")
    with pytest.raises(CacheError, match=r"head\.safetensors .* its checksum is not the manifest's"):
        _ = stored(folder).head
    assert stored(folder, checks_checksums=False).head.weight[-1, -1] == 0


def test_a_shard_is_opened_once(made, tmp_path):
    folder = own_copy(made.folder, tmp_path / "c")
    cache = stored(folder)
    rows = cache.rows("scores", cache.places(made.ids))
    for path in folder.rglob("*.safetensors"):
        path.unlink()
    torch.testing.assert_close(cache.rows("scores", cache.places(made.ids)).records, rows.records)
