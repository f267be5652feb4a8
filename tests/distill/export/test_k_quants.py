"""K-quants: by llama.cpp's own quantizer where it is installed (marked `builds`), else by scripts in its place."""

import importlib.util
import logging
import stat
import sys
from collections import Counter

import gguf
import pytest
import torch
from transformers import AutoModelForCausalLM, LlamaConfig

from distill.decoding import LlamaCppGenerator
from distill.errors import ExportError, RecipeError
from distill.export import ExportSettings, export_model
from distill.export.k_quants import fallback_note, write_k_quant
from distill.export.next_token import next_log_probs, next_token_kl
from distill.export.stored_tensors import stored_tensors
from distill.models import load_model, load_tokenizer, save_model

RENAMES = """
import sys, gguf, shutil
source, target, name = sys.argv[1:]
shutil.copy(source, target)
field = gguf.GGUFReader(target, "r+").fields["general.file_type"]
field.parts[field.data[0]][0] = {"Q4_K_M": 15, "Q5_K_M": 17, "Q6_K": 2}[name]
"""
FAILS = "import sys; print('loading', file=sys.stderr); sys.exit('llama_model_quantize: out of memory')"
ABORTS = "import os; os.abort()"
QUANTIZER = pytest.mark.skipif(
    importlib.util.find_spec("llama_cpp") is None, reason="needs llama-cpp-python, built from source"
)


@pytest.fixture
def quantizer(tmp_path, monkeypatch):
    """Puts a program of the name llama-quantize on the path of an installation without llama-cpp-python."""

    def put(program):
        path = tmp_path / "bin" / "llama-quantize"
        path.parent.mkdir()
        path.write_text(f"#!{sys.executable}\n{program}")
        path.chmod(path.stat().st_mode | stat.S_IXUSR)

    monkeypatch.setitem(sys.modules, "llama_cpp", None)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    return put


def test_without_a_quantizer_the_install_line_is_given_before_any_work(llama_folder, tmp_path, quantizer):
    del quantizer
    with pytest.raises(RecipeError, match="gguf-q4_k_m needs llama_cpp") as caught:
        export_model(llama_folder, formats=("gguf-q4_k_m",), output_dir=tmp_path / "out")
    assert "pip install 'llama-cpp-python" in caught.value.fix
    assert "llama-quantize on the PATH" in caught.value.fix
    assert not (tmp_path / "out").exists()
    with pytest.raises(RecipeError, match="gguf-q6_k needs llama_cpp"):
        write_k_quant(llama_folder, tmp_path / "model.gguf", file_type="q6_k")


def test_a_llama_quantize_on_the_path_does_as_well(llama_folder, tmp_path, quantizer, caplog):
    """This one renames the type and leaves 15 matrices in float32: none is a K-quant, and that is said."""
    quantizer(RENAMES)
    with caplog.at_level(logging.WARNING):
        report = write_k_quant(llama_folder, tmp_path / "model.gguf", file_type="q4_k_m")
    assert (report.quantizer, report.num_tensors_by_type) == ("llama-quantize", {"F32": 20})
    assert (report.num_fallbacks, report.num_matrices, report.bits_per_weight) == (15, 15, 32.0)
    assert caplog.messages == [f"model.gguf: {fallback_note(15, 15)}"]
    assert {path.name for path in tmp_path.iterdir()} == {"bin", "model.gguf"}


@pytest.mark.parametrize(
    ("program", "message", "why"),
    [
        (FAILS, "llama-quantize ends with exit code 1 on gguf-q6_k", "loading; llama_model_quantize: out of memory"),
        (ABORTS, "llama-quantize ends with exit code -6 on gguf-q6_k", "it says nothing"),
        ("", "llama-quantize ends with exit code 0 on gguf-q6_k", "it says nothing"),
        (RENAMES, r"wrote file type 2, not 18 \(q6_k\)", "other types"),
    ],
)
def test_a_quantizer_that_fails_leaves_no_file(llama_folder, tmp_path, quantizer, program, message, why):
    quantizer(program)
    with pytest.raises(ExportError, match=message) as caught:
        write_k_quant(llama_folder, tmp_path / "model.gguf", file_type="q6_k")
    assert why in caught.value.why
    assert {path.name for path in tmp_path.iterdir()} == {"bin"}


@pytest.fixture(scope="module", params=[192, 256])
def wide_folder(request, llama_folder, tmp_path_factory):
    """A random model whose rows are all 192 or all 256 wide, but for those of its third part."""
    tokenizer, width = load_tokenizer(llama_folder), request.param
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=width,
        intermediate_size=256,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=256,
        tie_word_embeddings=True,
    )
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config).eval()
    folder = tmp_path_factory.mktemp("wide") / str(width)
    save_model(model, tokenizer, folder)
    return folder


@pytest.mark.builds
@QUANTIZER
def test_a_narrow_model_falls_back_and_the_histogram_shows_it(wide_folder, tmp_path, caplog):
    """Two layers of 7 matrices and an embedding; Q4_K_M takes Q6_K for the embedding and one layer's V and down_proj.

    Where the model is 192 wide only down_proj has rows of 256. The others fall back from Q6_K to Q8_0 (the embedding,
    one V) and from Q4_K to Q5_0 (the other V, and Q, K, the output, gate and up of two layers).
    """
    with caplog.at_level(logging.WARNING):
        report = write_k_quant(wide_folder, tmp_path / "model.gguf", file_type="q4_k_m")
    types = Counter(report.num_tensors_by_type)
    assert types.pop("F32") == 5
    assert sum(types.values()) == report.num_matrices == 15
    if wide_folder.name == "192":
        assert types == {"Q4_K": 1, "Q5_0": 11, "Q6_K": 1, "Q8_0": 2}
        assert report.num_fallbacks == 13
        assert caplog.messages == [f"model.gguf: {fallback_note(13, 15)}"]
    else:
        assert types == {"Q4_K": 12, "Q6_K": 3}
        assert (report.num_fallbacks, caplog.messages) == (0, [])


@pytest.mark.builds
@QUANTIZER
@pytest.mark.parametrize(
    ("file_type", "file_type_id", "bar"),
    [
        ("q6_k", gguf.LlamaFileType.MOSTLY_Q6_K, 4e-4),
        ("q5_k_m", gguf.LlamaFileType.MOSTLY_Q5_K_M, 1e-3),
        ("q4_k_m", gguf.LlamaFileType.MOSTLY_Q4_K_M, 3e-3),
    ],
)
def test_what_llama_cpp_quantizes_it_runs_and_transformers_reads(wide_folder, tmp_path, file_type, file_type_id, bar):
    """The same bytes twice; three times what such models were measured to lose."""
    paths = [tmp_path / f"{number}.gguf" for number in range(2)]
    report, _ = (write_k_quant(wide_folder, path, file_type=file_type) for path in paths)
    assert paths[0].read_bytes() == paths[1].read_bytes()
    assert gguf.GGUFReader(paths[0]).get_field("general.file_type").contents() == file_type_id
    assert report.quantizer.startswith("llama-cpp-python ")
    prefixes = [[7], list(range(40, 60)), [(11 * place) % 300 for place in range(100)]]
    loaded = load_model(wide_folder)
    expected = next_log_probs(loaded, prefixes)
    read_back = [row.tolist() for row in next_log_probs(load_model(paths[0]), prefixes)]
    assert next_token_kl(expected, read_back) < bar
    with LlamaCppGenerator(paths[0], max_length_tokens=256) as runtime:
        actual = [runtime.next_log_probs(prefix, vocab_size=len(expected[0])) for prefix in prefixes]
    assert next_token_kl(expected, actual) < bar
    stored = list(stored_tensors(paths[0], merged_folder=wide_folder))
    assert Counter(tensor.type for tensor in stored) == Counter(report.num_tensors_by_type)
    assert 8 * sum(t.size_bytes for t in stored) / sum(t.num_weights for t in stored) == report.bits_per_weight


@pytest.mark.builds
@QUANTIZER
def test_a_student_is_exported_in_a_k_quant(llama_folder, dialogues, tmp_path):
    """64 wide: every matrix falls back, which card and page say."""
    settings = ExportSettings(formats=("gguf-q4_k_m",), max_new_tokens=40, measures_speed=False)
    report = export_model(
        llama_folder, formats=("gguf-q4_k_m",), output_dir=tmp_path, prompts=dialogues, settings=settings
    )
    artefact = report.artefacts[1]
    assert artefact.smoke.num_same_corpus_ids == artefact.smoke.num_corpus_texts > 300
    assert artefact.details["num_fallbacks"] == 15
    assert artefact.weights.num_tensors_by_type == artefact.details["num_tensors_by_type"]
    assert fallback_note(15, 15) in (tmp_path / "gguf-q4_k_m" / "README.md").read_text()
    assert fallback_note(15, 15) in (tmp_path / "report.html").read_text()
    assert not list(tmp_path.glob("**/*unquantized*"))
