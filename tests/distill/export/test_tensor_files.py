import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from distill.errors import ExportError, ModelError
from distill.export.tensor_files import TensorFiles, TensorShape, stored_dtype, write_tensor_files

TENSORS = {
    "half": torch.tensor([[1.5, -2.0, 3.0]], dtype=torch.bfloat16),
    "whole": torch.arange(6.0).reshape(2, 3),
    "count": torch.tensor(7),
    "none": torch.zeros(0, 4),
}


def shapes(tensors):
    return {name: TensorShape(tensor.dtype, tuple(tensor.shape)) for name, tensor in tensors.items()}


def test_what_is_written_is_what_the_library_reads(tmp_path):
    write_tensor_files(tmp_path, shapes(TENSORS), TENSORS.__getitem__)
    read = load_file(tmp_path / "model.safetensors")
    assert read.keys() == TENSORS.keys()
    assert all(torch.equal(read[name], tensor) and read[name].dtype == tensor.dtype for name, tensor in TENSORS.items())
    files = TensorFiles(tmp_path)
    assert files.shapes == shapes(TENSORS)
    assert all(torch.equal(files.load(name), tensor) for name, tensor in TENSORS.items())


def test_no_file_holds_more_than_asked_for_and_the_index_finds_all(tmp_path):
    """Three tensors of 40 bytes in files of 80: two and one. One of 400 bytes has its own."""
    tensors = {name: torch.full((10,), float(ord(name))) for name in "abc"} | {"d": torch.ones(100)}
    write_tensor_files(tmp_path, shapes(tensors), tensors.__getitem__, max_shard_bytes=80)
    index = json.loads((tmp_path / "model.safetensors.index.json").read_text())
    assert index["metadata"]["total_size"] == 520
    first, second, third = (f"model-{number:05d}-of-00003.safetensors" for number in (1, 2, 3))
    assert index["weight_map"] == {"a": first, "b": first, "c": second, "d": third}
    assert all(torch.equal(TensorFiles(tmp_path).load(name), tensor) for name, tensor in tensors.items())


def test_one_tensor_is_asked_for_at_a_time(tmp_path):
    """A tensor is dropped before the next is asked for."""
    alive = []

    class Counted(torch.Tensor):
        def __del__(self):
            alive.remove(1)

    def load(name):
        assert not alive
        alive.append(1)
        return torch.ones(4).as_subclass(Counted)

    write_tensor_files(tmp_path, {name: TensorShape(torch.float32, (4,)) for name in "abcd"}, load)
    assert not alive


def test_a_tensor_of_another_shape_is_refused(tmp_path):
    with pytest.raises(ExportError, match=r"tensor whole is torch\.float32 \(2, 3\)"):
        write_tensor_files(tmp_path, {"whole": TensorShape(torch.float32, (3, 2))}, TENSORS.__getitem__)


def test_packed_floats_are_refused(tmp_path):
    save_file({"w": torch.ones(2).to(torch.float8_e4m3fn)}, tmp_path / "model.safetensors")
    with pytest.raises(ModelError, match="tensor w is stored as F8_E4M3"):
        TensorFiles(tmp_path)


def test_the_dtype_of_a_folder_is_the_one_that_all_its_numbers_have(tmp_path):
    save_file({"w": torch.ones(2).half(), "n": torch.tensor([1])}, tmp_path / "model.safetensors")
    assert stored_dtype(tmp_path) == "float16"
    save_file({"w": torch.ones(2).half(), "v": torch.ones(2)}, tmp_path / "model.safetensors")
    assert stored_dtype(tmp_path) == "float32"
