from pathlib import Path

import gguf
import numpy as np

from eval.speed.export_differences import Differences, differences


def write(path: Path, *, name: str = "n", extra: bool = False, values: tuple[float, ...] = (1.0, 2.0)) -> Path:
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name(name)
    if extra:
        writer.add_author("a")
    writer.add_tensor("same", np.array([[1.0]], dtype=np.float32))
    writer.add_tensor("row", np.array(values, dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def test_a_file_does_not_differ_from_itself(tmp_path: Path):
    path = write(tmp_path / "a.gguf")
    assert differences(path, path) == Differences(2, (), (), (), ())


def test_keys_values_and_bytes_that_differ_are_named(tmp_path: Path):
    first, second = write(tmp_path / "a.gguf", extra=True), write(tmp_path / "b.gguf", name="m", values=(1.0, 3.0))
    assert differences(first, second) == Differences(2, ("row",), ("general.author",), (), ("general.name",))
    assert differences(second, first).only_second == ("general.author",)


def test_equal_bytes_in_another_shape_differ(tmp_path: Path):
    writer = gguf.GGUFWriter(tmp_path / "b.gguf", "llama")
    writer.add_name("n")
    writer.add_tensor("row", np.array([[1.0, 2.0]], dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    assert differences(write(tmp_path / "a.gguf"), tmp_path / "b.gguf").tensors == ("row", "same")
