import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load, save_file

from distill.errors import CacheError
from distill.objectives.output_head import OutputHead
from distill.teacher_cache.head_file import float_head, head_size_bytes, read_head, write_head

WEIGHT = torch.arange(6.0).reshape(3, 2).bfloat16()
HEAD = OutputHead(WEIGHT, torch.tensor([1.0, 2.0, 3.0]), 0.25, 30.0)


def header(**changes) -> dict[str, str]:
    values = {"format": "distill-output-head", "version": 1, "logit_scale": 1.0, "soft_cap": None}
    return {"distill": json.dumps(values | changes)}


@pytest.mark.parametrize("head", [HEAD, OutputHead(WEIGHT), OutputHead(WEIGHT.float(), None, 1.0, 50.0)])
def test_a_head_reads_back_in_its_own_dtype_with_bias_scale_and_soft_cap(tmp_path: Path, head: OutputHead):
    write_head(tmp_path / "head.safetensors", head)
    found = read_head(tmp_path / "head.safetensors", vocab_size=3, hidden_size=2)
    assert found.weight.dtype == head.weight.dtype
    assert (found.logit_scale, found.soft_cap) == (head.logit_scale, head.soft_cap)
    torch.testing.assert_close(found.logits(torch.ones(1, 2)), head.logits(torch.ones(1, 2)), rtol=0, atol=0)


def test_a_head_takes_the_bytes_of_weight_and_bias():
    """Six bfloat16 weights take 12 bytes, three float32 biases 12."""
    assert head_size_bytes(HEAD) == 24


def test_a_missing_or_cut_off_head_is_named(tmp_path: Path):
    path = tmp_path / "head.safetensors"
    with pytest.raises(CacheError, match=r"head\.safetensors .* the file is missing"):
        read_head(path, vocab_size=3, hidden_size=2)
    write_head(path, HEAD)
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(CacheError, match=r"head\.safetensors .* cannot be opened"):
        read_head(path, vocab_size=3, hidden_size=2)


@pytest.mark.parametrize(
    ("changes", "metadata", "message"),
    [
        ({}, None, "not an output head"),
        ({}, {"distill": "[]"}, "not an output head"),
        ({}, header(version=2), "its header says"),
        ({}, header(logit_scale=None), "logit_scale is None"),
        ({}, header(logit_scale=True), "logit_scale is True"),
        ({}, header(logit_scale=float("nan")), "logit_scale is nan"),
        ({}, header(logit_scale=10**400), "logit_scale is 1000"),
        ({}, header(soft_cap=float("inf")), "soft_cap inf"),
        ({}, header(soft_cap=0.0), "soft_cap 0.0"),
        ({}, header(soft_cap="x"), "soft_cap 'x'"),
        ({"other": torch.zeros(1)}, header(), "it holds bias, other, weight"),
        ({"weight": torch.zeros(3, 2).int()}, header(), "weight is I32, not one of F32"),
        ({"weight": torch.full((3, 2), float("nan"))}, header(), "numbers that are not finite"),
        ({"bias": torch.full((3,), float("inf"))}, header(), "numbers that are not finite"),
        ({"weight": torch.zeros(3, 3)}, header(), r"weight has shape \[3, 3\], not \[3, 2\]"),
        ({"bias": torch.zeros(4)}, header(), r"bias has shape \[4\], not \[3\]"),
    ],
)
def test_a_hostile_head_is_refused(tmp_path: Path, changes, metadata, message):
    path = tmp_path / "head.safetensors"
    write_head(path, HEAD)
    save_file({**load(path.read_bytes()), **changes}, path, metadata=metadata)
    with pytest.raises(CacheError, match=message):
        read_head(path, vocab_size=3, hidden_size=2)


def test_a_widened_head_gives_the_same_logits():
    wide = float_head(HEAD)
    assert wide.weight.dtype == torch.float32
    torch.testing.assert_close(wide.logits(torch.ones(1, 2)), HEAD.logits(torch.ones(1, 2)), rtol=0, atol=0)
