import ast
import shlex

import pytest

from distill.export.usage import TRANSFORMERS, usage


def blocks(text, language):
    return [part.partition("```")[0] for part in text.split(f"```{language}\n")[1:]]


def test_each_runtime_that_reads_a_gguf_is_told_its_file():
    text = usage("llama.cpp", file_name="m.gguf")
    for words in ("llama-server --model m.gguf", "ollama create student -f Modelfile", 'Llama("m.gguf"', "./m.gguf"):
        assert words in text


def test_packages_are_named():
    text = usage("transformers", file_name=".", needs=("bitsandbytes",))
    assert "pip install torch transformers bitsandbytes" in text


@pytest.mark.parametrize("runtime", ["llama.cpp", "transformers"])
def test_python_parses_and_shell_splits(runtime):
    text = usage(runtime, file_name="m.gguf")
    for code in blocks(text, "python"):
        ast.parse(code)
    for code in blocks(text, "sh"):
        assert all(shlex.split(line) for line in code.strip().splitlines())


def test_the_transformers_lines_run(llama_folder, monkeypatch, capsys):
    monkeypatch.chdir(llama_folder)
    exec(compile(TRANSFORMERS, "usage", "exec"), {})
    assert capsys.readouterr().out.strip()
