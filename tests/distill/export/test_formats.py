import importlib.util
import sys

import pytest

from distill.data import write_conversations
from distill.errors import RecipeError
from distill.export import ExportSettings, export_model
from distill.export.formats import FORMATS, MERGED
from distill.export.writing import Writing
from distill.extras import LLAMA_CPP


def test_the_merged_model_is_a_format():
    assert FORMATS[MERGED].runtime == "transformers"


@pytest.mark.parametrize("name", FORMATS)
def test_each_format_writes_what_its_runtime_is_given(name, llama_folder, tmp_path):
    row = FORMATS[name]
    try:
        row.require(name, Writing())
    except RecipeError as missing:
        pytest.skip(missing.what)
    row.write(llama_folder, tmp_path, Writing())
    path = tmp_path / row.model_file
    assert (
        (path.is_file() and path.suffix == ".gguf") if row.runtime == "llama.cpp" else (path / "config.json").exists()
    )


def test_formats_with_fewer_bits_may_change_more_answers():
    shares = [FORMATS[f"gguf-{name}"].min_same_text for name in ("f16", "q8_0", "q4_0")]
    assert shares == sorted(shares, reverse=True)


def test_formats_with_fewer_bits_may_lie_farther():
    bounds = [FORMATS[f"gguf-{name}"].max_next_token_kl for name in ("f16", "bf16", "q8_0", "q6_k", "q5_k_m", "q4_k_m")]
    assert bounds == sorted(bounds)


@pytest.mark.parametrize("name", ["gguf-q6_k", "gguf-q5_k_m", "gguf-q4_k_m"])
def test_k_quants_need_llama_cpps_quantizer(name):
    assert FORMATS[name].extra is LLAMA_CPP


@pytest.mark.parametrize(
    ("name", "install"),
    [
        ("torchao-int8", "pip install 'torchao>=0.18'"),
        ("auto-round-w4a16", "pip install 'auto-round>=0.16'"),
        ("compressed-w4a16", "pip install 'compressed-tensors>=0.19'"),
        ("compressed-w8a8", "pip install 'compressed-tensors>=0.19'"),
        ("compressed-fp8", "pip install 'compressed-tensors>=0.19'"),
    ],
)
def test_a_format_whose_package_is_not_installed_is_refused_and_nothing_written(
    name, install, llama_folder, tmp_path, monkeypatch
):
    monkeypatch.setattr(importlib.util, "find_spec", lambda module, package=None: None)
    with pytest.raises(RecipeError, match="which is not installed") as refused:
        export_model(llama_folder, formats=("safetensors", name), output_dir=tmp_path / "out")
    assert (refused.value.fix, refused.value.exit_code) == (install, 2)
    assert not (tmp_path / "out").exists()


def test_llm_compressors_missing_environment_is_refused_and_nothing_written(llama_folder, tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda module, package=None: sys.__spec__)
    settings = ExportSettings(formats=("compressed-fp8",), llmcompressor_python=tmp_path / "python")
    with pytest.raises(RecipeError, match="no interpreter at") as refused:
        export_model(llama_folder, formats=settings.formats, output_dir=tmp_path / "out", settings=settings)
    assert "pip install 'llmcompressor==0.14.*'" in refused.value.fix
    assert not (tmp_path / "out").exists()


def test_calibration_on_held_out_chats_is_refused_and_nothing_written(llama_folder, dialogues, tmp_path):
    write_conversations(tmp_path / "train.jsonl", dialogues)
    settings = ExportSettings(formats=("safetensors",), calibration=tmp_path / "train.jsonl")
    with pytest.raises(RecipeError, match="10 of the held-out"):
        export_model(
            llama_folder,
            formats=settings.formats,
            output_dir=tmp_path / "out",
            prompts=dialogues,
            settings=settings,
        )
    assert not (tmp_path / "out").exists()
