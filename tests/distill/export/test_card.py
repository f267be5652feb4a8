import pytest

from distill.export.card import card, write_card


def text(**changes):
    values = {
        "title": "gguf-q8_0",
        "description": "A model.",
        "runtime": "llama.cpp",
        "file_name": "model-q8_0.gguf",
        "lineage": {"teacher": "big"},
        "figures": {"KL": "0.001"},
    }
    return card(**{**values, **changes})


def test_a_card_says_where_it_comes_from_and_how_near_it_is():
    assert "| teacher | big |" in text()
    assert "| KL | 0.001 |" in text()


def test_empty_tables_are_left_out():
    assert "## Lineage" not in text(lineage={})
    assert "## Measured" not in text(figures={})


@pytest.mark.parametrize(
    ("runtime", "command"), [("llama.cpp", "llama-server --model"), ("transformers", "from_pretrained")]
)
def test_a_card_says_how_to_run_it(runtime, command):
    assert command in text(runtime=runtime)


def test_a_cell_cannot_break_its_table():
    assert "| a\\|b | c d |" in text(lineage={"a|b": "c\nd"})


def test_the_card_is_the_folders_readme(tmp_path):
    write_card(tmp_path, text())
    assert (tmp_path / "README.md").read_text() == text()
