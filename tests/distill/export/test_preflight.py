import pytest
import torch
from safetensors.torch import save_file

from distill.errors import ExportError
from distill.export.preflight import needed_bytes, require_disk, scratch_bytes

MIB = 1 << 20


@pytest.fixture
def folder(tmp_path):
    """A checkpoint of an embedding [10, 32], one matrix [64, 32] and a norm [32], in bfloat16."""
    (tmp_path / "config.json").write_text("{}")
    shapes = {"model.embed_tokens.weight": (10, 32), "model.layers.0.mlp.up_proj.weight": (64, 32), "model.norm": (32,)}
    save_file(
        {name: torch.zeros(shape, dtype=torch.bfloat16) for name, shape in shapes.items()},
        tmp_path / "model.safetensors",
    )
    return tmp_path


def test_needed_bytes_known_answer(folder):
    """320 weights outside, 2048 inside, 32 of a norm in float32 (128 bytes), 2 bytes of config.json and 1 MiB.

    gguf-q4_0: 320 * 8.5 / 8 + 2048 * 4.5 / 8 = 340 + 1152. The merged model in bfloat16: 2 * 2368.
    """
    sizes = needed_bytes(folder, ["safetensors", "gguf-q4_0", "gguf-f32"], dtype="bfloat16")
    assert sizes == {
        "safetensors": 4736 + 128 + 2 + MIB,
        "gguf-q4_0": 340 + 1152 + 128 + 2 + MIB,
        "gguf-f32": 4 * 2368 + 128 + 2 + MIB,
    }


def test_a_format_without_a_row_counts_as_float32(folder):
    sizes = needed_bytes(folder, ["unheard-of", "gguf-f32"], dtype="float32")
    assert sizes["unheard-of"] == sizes["gguf-f32"]


def test_rows_that_no_block_divides_count_as_float16(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    save_file({"w": torch.zeros(4, 33)}, tmp_path / "model.safetensors")
    assert needed_bytes(tmp_path, ["gguf-q4_0"], dtype="float32")["gguf-q4_0"] == 2 * 4 * 33 + 2 + MIB


def test_k_quants_whose_rows_no_block_of_256_divides_are_wider(tmp_path):
    """256 columns: 6.5625 bits a weight; 192 columns: the 8.5 of q8_0."""
    (tmp_path / "config.json").write_text("{}")
    save_file({"a": torch.zeros(2, 256), "b": torch.zeros(2, 192)}, tmp_path / "model.safetensors")
    needed = needed_bytes(tmp_path, ["gguf-q4_k_m"], dtype="float32")["gguf-q4_k_m"]
    assert needed == (512 * 6.5625 + 384 * 8.5) / 8 + 2 + MIB


def test_only_the_outside_quantizer_needs_scratch(folder):
    assert scratch_bytes(folder, ["gguf-q8_0", "bnb-nf4"]) == 0
    assert scratch_bytes(folder, ["gguf-q4_k_m"]) == needed_bytes(folder, ["gguf-f32"], dtype="float32")["gguf-f32"]


def test_a_disk_that_is_large_enough_says_nothing(tmp_path):
    require_disk({"a": 60}, tmp_path / "not" / "there", scratch=40, free_bytes=100)
    require_disk({"a": 1}, tmp_path)


def test_a_disk_that_is_too_small_is_told_what_each_format_needs(tmp_path):
    with pytest.raises(ExportError, match=r"has 1\.00 GB free, the export needs up to 4\.50 GB") as caught:
        require_disk({"safetensors": 10**9, "bnb-nf4": 5 * 10**8}, tmp_path, scratch=3 * 10**9, free_bytes=10**9)
    assert caught.value.why == "safetensors 1.00 GB, bnb-nf4 0.50 GB, 3.00 GB on the way"
    assert "fewer formats" in caught.value.fix


def test_a_real_disk_is_asked(tmp_path):
    with pytest.raises(ExportError, match="the export needs up to"):
        require_disk({"safetensors": 1 << 80}, tmp_path / "deeper" / "folder")
    assert not (tmp_path / "deeper").exists()
