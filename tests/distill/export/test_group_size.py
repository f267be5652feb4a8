import pytest
import torch
from safetensors.torch import save_file

from distill.errors import ExportError
from distill.export.group_size import group_size


@pytest.mark.parametrize(("widths", "expected"), [((256, 128), 128), ((256, 192), 64), ((96, 64), 32)])
def test_the_largest_group_that_divides_every_row_is_taken(tmp_path, widths, expected):
    tensors = {f"model.layers.{n}.mlp.up_proj.weight": torch.zeros(2, width) for n, width in enumerate(widths)}
    save_file(tensors, tmp_path / "model.safetensors")
    assert group_size(tmp_path) == expected


def test_embedding_head_and_norms_have_no_say(tmp_path):
    tensors = {
        "model.embed_tokens.weight": torch.zeros(4, 33),
        "lm_head.weight": torch.zeros(4, 33),
        "model.norm.weight": torch.zeros(33),
        "model.layers.0.mlp.up_proj.weight": torch.zeros(2, 128),
    }
    save_file(tensors, tmp_path / "model.safetensors")
    assert group_size(tmp_path) == 128


def test_rows_that_no_group_divides_are_refused(tmp_path):
    save_file({"model.layers.0.mlp.up_proj.weight": torch.zeros(2, 40)}, tmp_path / "model.safetensors")
    with pytest.raises(
        ExportError, match=r"rows of 40 weights \(model\.layers\.0\.mlp\.up_proj\.weight\).*groups of 32"
    ):
        group_size(tmp_path)
