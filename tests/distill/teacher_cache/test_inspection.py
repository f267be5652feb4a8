import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load, save_file

from distill.errors import CacheError
from distill.files import sha256_of_file
from distill.teacher_cache import inspect, score_sequences, verify


@pytest.fixture
def folder(teacher, sequences, small_shards, tmp_path) -> Path:
    score_sequences(teacher, sequences, settings=small_shards(), output_dir=tmp_path / "c", data_fingerprint="data")
    return tmp_path / "c"


def rewritten(folder: Path, name: str, **changes: torch.Tensor) -> None:
    """Changes tensors of a file and its checksum in the manifest, as only a faulty writer could."""
    path = folder / name
    header = {"distill": json.dumps({"format": "distill-teacher-shard", "version": 1})}
    if path.name == "head.safetensors":
        values = {"format": "distill-output-head", "version": 1, "logit_scale": 1.0, "soft_cap": None}
        header = {"distill": json.dumps(values)}
    save_file({**load(path.read_bytes()), **changes}, path, metadata=header)
    content = json.loads((folder / "manifest.json").read_text())
    if path.name == "head.safetensors":
        content["head_sha256"] = sha256_of_file(path)
    for record in content["shards"]:
        if record["name"] == path.name:
            record |= {"sha256": sha256_of_file(path), "size_bytes": path.stat().st_size}
    (folder / "manifest.json").write_text(json.dumps(content))


def test_inspect_gives_the_figures_of_a_cache(folder, sequences):
    """bfloat16 hidden states of 32 numbers take 64 bytes a token, id and log-prob 8; ids and headers come on top."""
    figures = inspect(folder)
    num_tokens = sum(len(row.completion_ids) for row in sequences)
    files = [*(folder / "shards").iterdir(), folder / "head.safetensors"]
    assert (figures["codec"], figures["num_sequences"], figures["num_tokens"]) == ("exact", 12, num_tokens)
    assert figures["size_bytes"] == sum(path.stat().st_size for path in files)
    assert figures["bytes_per_token"] > 72
    assert figures["is_complete"]
    json.dumps(figures)


def test_inspect_shows_a_cache_that_is_not_finished(folder):
    content = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps(content | {"complete": False, "shards": []}))
    figures = inspect(folder)
    assert not figures["is_complete"]
    assert (figures["num_finished_shards"], figures["bytes_per_token"]) == (0, None)
    with pytest.raises(CacheError, match="is not finished: 0 of"):
        verify(folder)


def test_verify_passes_a_sound_cache(folder):
    assert verify(folder) == inspect(folder)


def test_verify_names_every_damaged_file(folder):
    for name in ("shards/00000.safetensors", "shards/00002.safetensors", "head.safetensors"):
        path = folder / name
        path.write_bytes(path.read_bytes()[:-1] + b"!")
    with pytest.raises(CacheError, match="3 of its files are damaged") as caught:
        verify(folder)
    for name in ("shards/00000.safetensors", "shards/00002.safetensors", "head.safetensors"):
        assert name in caught.value.what
    assert "shards/00001.safetensors" not in caught.value.what


@pytest.mark.parametrize("tensor", ["token_log_probs", "hidden_states"])
def test_verify_finds_numbers_that_are_not_finite(folder, tensor):
    values = load((folder / "shards/00001.safetensors").read_bytes())[tensor]
    values.view(-1)[0] = float("nan")
    rewritten(folder, "shards/00001.safetensors", **{tensor: values})
    with pytest.raises(CacheError, match=r"00001\.safetensors .* holds numbers that are not finite"):
        verify(folder)


def test_verify_finds_a_head_that_is_not_finite(folder):
    weight = load((folder / "head.safetensors").read_bytes())["weight"]
    weight[0, 0] = float("inf")
    rewritten(folder, "head.safetensors", weight=weight)
    with pytest.raises(CacheError, match=r"head\.safetensors .* holds numbers that are not finite"):
        verify(folder)


def test_verify_finds_a_sequence_that_stands_in_two_shards(folder):
    ids = load((folder / "shards/00000.safetensors").read_bytes())["ids"][:1]
    other = load((folder / "shards/00001.safetensors").read_bytes())["ids"]
    rewritten(folder, "shards/00001.safetensors", ids=torch.cat([ids, other[1:]]))
    with pytest.raises(CacheError, match=r"00001\.safetensors .* it holds a sequence of another shard"):
        verify(folder)
