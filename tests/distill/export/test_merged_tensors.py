import pytest
import torch
from safetensors.torch import save_file

from distill.errors import ExportError
from distill.export.merged_tensors import AdapterFile, MergedTensors
from distill.export.tensor_files import TensorFiles

NAMES = {"embed.weight", "head.weight"}


@pytest.fixture
def base(tmp_path):
    save_file({"embed.weight": torch.ones(2, 3).bfloat16()}, tmp_path / "model.safetensors")
    return TensorFiles(tmp_path)


def test_a_head_that_is_the_embedding_is_there_once_and_widened(base):
    merged = MergedTensors(base, tied={"head.weight": "embed.weight"}, wanted=NAMES)
    assert merged.ties_embeddings
    assert merged.shapes.keys() == {"embed.weight"}
    assert merged.load("head.weight").dtype == torch.float32


def test_a_tensor_that_is_nowhere_is_refused(base):
    with pytest.raises(ExportError, match=r"the checkpoint has no tensor head\.weight"):
        MergedTensors(base, tied={}, wanted=NAMES)


def test_whole_tensors_of_adapters_are_known_by_the_bases_names(tmp_path):
    keys = ("model.embed.base_layer.weight", "head.weight", "model.q.lora_A.weight")
    save_file({f"base_model.model.{key}": torch.ones(1) for key in keys}, tmp_path / "adapter_model.safetensors")
    assert AdapterFile(tmp_path).whole.keys() == {"model.embed.weight", "head.weight"}
