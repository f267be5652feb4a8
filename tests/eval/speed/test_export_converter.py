import os
from pathlib import Path

import pytest

from distill.embedded import teacher_folder
from distill.errors import DistillError
from distill.export.gguf_vocabulary import read_vocabulary
from distill.files import read_json
from eval.speed.export_converter import SCRIPT, VARIABLE, converted, converter_folder, written_alone
from eval.speed.export_differences import differences
from eval.speed.export_models import SHAPES, random_qwen2


def fake_converter(folder: Path, *, program: str) -> Path:
    """A folder that looks like llama.cpp's; its tokenizer table knows nothing."""
    (folder / "conversion").mkdir(parents=True)
    (folder / "gguf-py").mkdir()
    (folder / "conversion" / "__init__.py").touch()
    refuses = "class TextModel:\n    def get_vocab_base_pre(self, tokenizer):\n        raise NotImplementedError\n"
    (folder / "conversion" / "base.py").write_text(refuses)
    (folder / SCRIPT).write_text(program)
    return folder


def test_a_folder_or_its_script_names_the_converter(tmp_path: Path, monkeypatch):
    folder = fake_converter(tmp_path / "llama.cpp", program="")
    assert converter_folder(folder) == converter_folder(folder / SCRIPT) == folder
    monkeypatch.setenv(VARIABLE, str(folder))
    assert converter_folder(None) == folder
    monkeypatch.delenv(VARIABLE)
    assert converter_folder(None) is None


def test_a_folder_without_a_converter_is_refused(tmp_path: Path):
    with pytest.raises(DistillError, match=r"(?s)has no convert_hf_to_gguf.py.*llama.cpp's source folder"):
        converter_folder(tmp_path)


def test_a_tokenizer_that_the_converter_does_not_know_is_named_to_it_and_that_is_told(tmp_path: Path):
    program = (
        "import sys\nfrom conversion.base import TextModel\n"
        "open(sys.argv[3], 'w').write(TextModel().get_vocab_base_pre(None))\n"
    )
    folder = fake_converter(tmp_path / "llama.cpp", program=program)
    found = converted(folder, tmp_path, tmp_path / "out", file_type="f16", pre_tokenizer="gpt-2")
    assert (tmp_path / "out").read_text() == "gpt-2"
    assert not found.knows_tokenizer
    assert found.elapsed_s > 0
    assert found.peak_bytes > 0


def test_a_package_that_the_converter_lacks_is_named_with_its_install_line(tmp_path: Path):
    folder = fake_converter(tmp_path / "llama.cpp", program="import sentencepiece_of_nobody\n")
    with pytest.raises(DistillError, match=r"(?s)converter fails.*ModuleNotFound.*pip install sentencepiece_of_nobody"):
        converted(folder, tmp_path, tmp_path / "out", file_type="f16", pre_tokenizer="gpt-2")


@pytest.mark.builds
@pytest.mark.slow
@pytest.mark.parametrize("file_type", ["f32", "f16", "bf16", "q8_0"])
@pytest.mark.parametrize("family", ["llama", "qwen2"])
def test_every_tensor_is_the_converters_byte_by_byte(tmp_path: Path, family: str, file_type: str):
    """Metadata may differ in names, a size label and an unknown token, which byte-level BPE never meets, that only the
    converter writes, and in two keys that it leaves to llama.cpp's defaults."""
    if VARIABLE not in os.environ:
        pytest.skip(f"{VARIABLE} names no folder of llama.cpp's sources")
    converter = converter_folder(None)
    assert converter is not None
    model = teacher_folder()
    if family == "qwen2":
        model = tmp_path / "model"
        random_qwen2(SHAPES["tiny"], model)
    pre = read_vocabulary(model, vocab_size=int(str(read_json(model / "config.json")["vocab_size"]))).pre
    ours, theirs = tmp_path / "ours.gguf", tmp_path / "theirs.gguf"
    written_alone(model, ours, file_type=file_type)
    converted(converter, model, theirs, file_type=file_type, pre_tokenizer=pre)
    found = differences(ours, theirs)
    assert found.num_tensors > 20
    assert found.tensors == ()
    assert set(found.only_second) <= {
        "general.name",
        "general.size_label",
        "tokenizer.ggml.unknown_token_id",
    }
    assert set(found.only_first) <= {"tokenizer.ggml.add_bos_token", "tokenizer.ggml.add_eos_token"}
    assert set(found.values) <= {"tokenizer.chat_template"}
