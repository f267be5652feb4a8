import torch
from safetensors.torch import save_file

from distill.export.safetensors_header import header_bytes, read_header, tensors_of


def test_a_files_tensors_are_told_without_its_metadata(tmp_path):
    path = tmp_path / "m.safetensors"
    save_file({"a": torch.zeros(2, 3), "b": torch.zeros(1, dtype=torch.int8)}, path, metadata={"format": "pt"})
    told = tensors_of(path)
    assert told.keys() == {"a", "b"}
    assert (told["a"]["dtype"], told["a"]["shape"]) == ("F32", [2, 3])
    assert told["b"]["data_offsets"][1] - told["b"]["data_offsets"][0] == 1


def test_values_begin_at_a_multiple_of_eight_and_what_is_written_is_read_back(tmp_path):
    for name in ("a", "ab", "abc", "größe"):
        header = {name: {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}
        path = tmp_path / "m.safetensors"
        path.write_bytes(header_bytes(header) + b"rest")
        with path.open("rb") as stream:
            assert read_header(stream) == header
            assert stream.tell() % 8 == 0
            assert stream.read() == b"rest"
