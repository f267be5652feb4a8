import os
from pathlib import Path

import pytest

from distill.errors import RecipeError
from distill.export.llm_compressor import PYTHON_VARIABLE, find_python, write_llm_compressor
from distill.export.weight_error import weight_report
from distill.export.writing import Writing
from distill.models import load_model


def program(path: Path, text: str) -> Path:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


def test_a_missing_environment_is_refused_with_the_lines_that_make_one(tmp_path):
    with pytest.raises(RecipeError, match="no interpreter at") as refused:
        find_python(Writing(llmcompressor_python=tmp_path / "python"))
    assert refused.value.exit_code == 2
    assert refused.value.fix.startswith(
        "python -m venv ~/.cache/distill/llmcompressor && "
        "~/.cache/distill/llmcompressor/bin/pip install 'llmcompressor==0.14.*'"
    )


def test_an_environment_without_llm_compressor_is_refused(tmp_path):
    python = program(tmp_path / "python", "echo 'AssertionError: it lacks it' >&2; exit 1")
    with pytest.raises(RecipeError, match=r"cannot import llmcompressor\nwhy: AssertionError: it lacks it"):
        find_python(Writing(llmcompressor_python=python))


def test_an_interpreter_that_does_not_run_is_refused(tmp_path):
    (tmp_path / "python").write_text("no program")
    with pytest.raises(RecipeError, match="does not run"):
        find_python(Writing(llmcompressor_python=tmp_path / "python"))


def test_the_setting_comes_before_the_variable_and_that_before_the_default_place(tmp_path, monkeypatch):
    named, told = (program(tmp_path / name, "exit 0") for name in ("named", "told"))
    (tmp_path / ".cache/distill/llmcompressor/bin").mkdir(parents=True)
    default = program(tmp_path / ".cache/distill/llmcompressor/bin/python", "exit 0")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv(PYTHON_VARIABLE, str(told))
    assert find_python(Writing(llmcompressor_python=named)) == named
    assert find_python(Writing()) == told
    monkeypatch.delenv(PYTHON_VARIABLE)
    assert find_python(Writing()) == default


@pytest.fixture
def environment() -> Path:
    """The interpreter of a real environment."""
    pytest.importorskip("compressed_tensors", reason="needs pip install 'compressed-tensors>=0.19'")
    try:
        return find_python(Writing())
    except RecipeError as missing:
        pytest.skip(f"{missing.what}; {missing.fix}; now {PYTHON_VARIABLE}={os.environ.get(PYTHON_VARIABLE)}")


@pytest.mark.builds
@pytest.mark.slow
@pytest.mark.parametrize(
    ("scheme", "kind", "max_error"), [("W4A16", "INT4", 0.15), ("W8A8", "I8", 0.01), ("FP8_DYNAMIC", "F8_E4M3", 0.05)]
)
def test_the_model_reloaded_here_is_the_one_in_the_other_environment(
    environment, llama_folder, tmp_path, scheme, kind, max_error
):
    details = write_llm_compressor(llama_folder, tmp_path, Writing(llmcompressor_python=environment), scheme=scheme)
    assert details["reload_delta"] < 1e-3
    assert details["method"] == "rounded to nearest, without calibration chats"
    report = weight_report(tmp_path, merged_folder=llama_folder)
    assert report.num_tensors_by_type[kind] == 14
    assert report.num_unread_tensors == 0
    assert 0 < report.worst_tensors[0].relative_rmse < max_error
    assert load_model(tmp_path).tokenizer.chat_template == load_model(llama_folder).tokenizer.chat_template


@pytest.mark.builds
@pytest.mark.slow
def test_gptq_fits_to_calibration_chats(environment, qwen2_folder, dialogues, tmp_path):
    how = Writing(llmcompressor_python=environment, calibration=tuple(dialogues))
    details = write_llm_compressor(qwen2_folder, tmp_path, how, scheme="W4A16")
    assert details["method"] == "GPTQ on calibration chats"
    assert details["num_calibration_windows"] >= 1
    assert details["reload_delta"] < 1e-3
