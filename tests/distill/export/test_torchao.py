import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from distill.export.torchao import sort_metadata, write_torchao
from distill.export.weight_error import weight_report
from distill.models import load_model


def test_metadata_is_put_in_order_and_tensors_stay(tmp_path):
    """torchao lists a tensor's parts in the order of a set; safetensors lists metadata in that of a hash table."""
    path, tensors = tmp_path / "model.safetensors", {"b": torch.arange(3.0), "a": torch.ones(2, dtype=torch.int8)}
    one = json.dumps({"_type": "Int8Tensor", "_tensor_data_names": ["scale", "qdata"]})
    other = json.dumps({"_tensor_data_names": ["qdata", "scale"], "_type": "Int8Tensor"})
    save_file(tensors, path, metadata={"x": one, "format": "pt", "tensor_names": '["a", "b"]'})
    sort_metadata(path)
    first = path.read_bytes()
    save_file(tensors, path, metadata={"tensor_names": '["b", "a"]', "format": "pt", "x": other})
    sort_metadata(path)
    assert path.read_bytes() == first
    assert int.from_bytes(first[:8], "little") % 8 == 0
    assert {name: tensor.tolist() for name, tensor in load_file(path).items()} == {"a": [1, 1], "b": [0.0, 1.0, 2.0]}


@pytest.mark.builds
@pytest.mark.parametrize("student", ["llama_folder", "qwen2_folder"])
def test_the_reloaded_model_is_the_quantized_one(request, tmp_path, student):
    pytest.importorskip("torchao", reason="needs pip install 'torchao>=0.18'")
    folder = request.getfixturevalue(student)
    assert write_torchao(folder, tmp_path / "first")["reload_delta"] == 0.0
    write_torchao(folder, tmp_path / "second")
    first, second = (tmp_path / name / "model.safetensors" for name in ("first", "second"))
    assert first.read_bytes() == second.read_bytes()
    report = weight_report(tmp_path / "first", merged_folder=folder)
    assert report.num_tensors_by_type["I8"] == 14
    assert report.num_unread_tensors == 0
    assert 0 < report.worst_tensors[0].relative_rmse < 0.01
    model = load_model(tmp_path / "first").model
    assert type(model.lm_head.weight) is torch.nn.Parameter
