import json
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load, save_file

from distill.errors import CacheError
from distill.teacher_cache.shard import ScoredSequence, ShardLayout, ShardReader, write_shard

EXACT = ShardLayout(4, "bfloat16")
SCORES = ShardLayout(None, None)
HEADER = {"distill": json.dumps({"format": "distill-teacher-shard", "version": 1})}


def scored(number: int, num_tokens: int, *, hidden_size: int | None = 4) -> ScoredSequence:
    values = torch.arange(num_tokens, dtype=torch.float32) + number
    hidden_states = None if hidden_size is None else values[:, None].expand(num_tokens, hidden_size).bfloat16()
    return ScoredSequence(f"{number:064x}", values.int(), -values, hidden_states)


def written(folder: Path, *, layout: ShardLayout = EXACT) -> Path:
    path = folder / "shards" / "00000.safetensors"
    write_shard(path, [scored(n, n + 1, hidden_size=layout.hidden_size) for n in range(3)], layout=layout)
    return path


def damage(path: Path, **changes: torch.Tensor | None) -> None:
    """Writes the shard again with some tensors replaced, or left out where the value is None."""
    tensors = {**load(path.read_bytes()), **changes}
    save_file({name: tensor for name, tensor in tensors.items() if tensor is not None}, path, metadata=HEADER)


@given(lengths=st.lists(st.integers(1, 5), min_size=1, max_size=6))
def test_every_sequence_reads_back_from_its_own_rows(tmp_path_factory, lengths):
    path = tmp_path_factory.mktemp("shard") / "00000.safetensors"
    rows = [scored(number, length) for number, length in enumerate(lengths)]
    write_shard(path, rows, layout=EXACT)
    reader = ShardReader(path, layout=EXACT)
    assert reader.sequence_ids == tuple(row.id for row in rows)
    assert reader.num_tokens == sum(lengths)
    for number, row in enumerate(rows):
        torch.testing.assert_close(reader.rows("completion_ids", number), row.completion_ids)
        torch.testing.assert_close(reader.rows("token_log_probs", number), row.token_log_probs)
        torch.testing.assert_close(reader.rows("hidden_states", number), row.hidden_states)


def test_what_is_read_is_a_copy_of_its_own_size(tmp_path: Path):
    values = ShardReader(written(tmp_path), layout=EXACT).rows("hidden_states", 1)
    assert values.untyped_storage().nbytes() == 2 * 4 * 2


def test_equal_sequences_give_equal_bytes(tmp_path: Path):
    assert written(tmp_path / "a").read_bytes() == written(tmp_path / "b").read_bytes()


def test_a_scores_shard_holds_no_hidden_states(tmp_path: Path):
    reader = ShardReader(written(tmp_path, layout=SCORES), layout=SCORES)
    assert reader.rows("token_log_probs", 2).tolist() == [-2.0, -3.0, -4.0]
    with pytest.raises(CacheError, match="holds no hidden_states"):
        reader.rows("hidden_states", 0)


def test_a_missing_shard_is_named(tmp_path: Path):
    with pytest.raises(CacheError, match=r"shards/00007\.safetensors .* the file is missing"):
        ShardReader(tmp_path / "shards" / "00007.safetensors", layout=EXACT)


@pytest.mark.parametrize("kept_bytes", [0, 4, 100, -1])
def test_a_shard_that_is_cut_off_is_named(tmp_path: Path, kept_bytes: int):
    path = written(tmp_path)
    path.write_bytes(path.read_bytes()[:kept_bytes])
    with pytest.raises(CacheError, match=r"shards/00000\.safetensors .* cannot be opened"):
        ShardReader(path, layout=EXACT)


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        (None, "not a shard of a teacher cache"),
        ({"distill": "{"}, "not a shard of a teacher cache"),
        ({"distill": '{"format": "distill-teacher-shard", "version": 2}'}, "its header says .*'version': 2"),
    ],
)
def test_a_file_of_another_format_is_refused(tmp_path: Path, metadata, message):
    path = written(tmp_path)
    save_file(load(path.read_bytes()), path, metadata=metadata)
    with pytest.raises(CacheError, match=message):
        ShardReader(path, layout=EXACT)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hidden_states": None}, "tensors differ .* in hidden_states"),
        ({"extra": torch.zeros(1)}, "tensors differ .* in extra"),
        ({"ids": torch.zeros(3, 31, dtype=torch.uint8)}, r"ids is U8 \[3, 31\], not U8 \[3, 32\]"),
        ({"ids": torch.zeros(3, dtype=torch.uint8)}, r"ids has shape \[3\]"),
        ({"ids": torch.zeros(0, 32, dtype=torch.uint8)}, r"ids has shape \[0, 32\]"),
        ({"offsets": torch.tensor([0, 1, 3])}, r"offsets is I64 \[3\], not I64 \[4\]"),
        ({"offsets": torch.tensor([0, 1, 3, 6]).int()}, "offsets is I32"),
        ({"offsets": torch.tensor([0, 1, 3, 7])}, "offsets do not climb from 0 to 6"),
        ({"offsets": torch.tensor([-1, 1, 3, 6])}, "offsets do not climb from 0 to 6"),
        ({"offsets": torch.tensor([0, 4, 3, 6])}, "offsets do not climb from 0 to 6"),
        ({"offsets": torch.tensor([0, 1, 1, 6])}, "offsets do not climb from 0 to 6"),
        ({"offsets": torch.tensor([0, 1, 2**62, 6])}, "offsets do not climb from 0 to 6"),
        ({"token_log_probs": torch.zeros(5)}, r"token_log_probs is F32 \[5\], not F32 \[6\]"),
        ({"token_log_probs": torch.zeros(6).double()}, r"token_log_probs is F64"),
        ({"hidden_states": torch.zeros(6, 4)}, r"hidden_states is F32 \[6, 4\], not BF16"),
        ({"hidden_states": torch.zeros(6, 5).bfloat16()}, r"hidden_states is BF16 \[6, 5\], not BF16 \[6, 4\]"),
        ({"completion_ids": torch.tensor(1).int()}, r"completion_ids has shape \[\]"),
        ({"ids": torch.zeros(3, 32, dtype=torch.uint8)}, "a sequence id stands in it twice"),
    ],
)
def test_a_hostile_shard_is_refused_before_it_is_read(tmp_path: Path, changes, message):
    path = written(tmp_path)
    damage(path, **changes)
    with pytest.raises(CacheError, match=message):
        ShardReader(path, layout=EXACT)
