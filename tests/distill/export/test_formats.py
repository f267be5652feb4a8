import pytest

from distill.export.formats import FORMATS, MERGED


def test_the_merged_model_is_a_format():
    assert FORMATS[MERGED].runtime == "transformers"


@pytest.mark.parametrize("name", FORMATS)
def test_each_format_writes_what_its_runtime_is_given(name, llama_folder, tmp_path):
    row = FORMATS[name]
    row.write(llama_folder, tmp_path, "float32")
    path = tmp_path / row.model_file
    assert (
        (path.is_file() and path.suffix == ".gguf") if row.runtime == "llama.cpp" else (path / "config.json").exists()
    )


def test_formats_with_fewer_bits_may_change_more_answers():
    shares = [FORMATS[f"gguf-{name}"].min_same_text for name in ("f16", "q8_0", "q4_0")]
    assert shares == sorted(shares, reverse=True)
