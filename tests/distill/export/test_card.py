import pytest
import yaml

from distill.export import lineage as words
from distill.export.card import artefact_card, comparison, export_card, write_card
from distill.export.fidelity import Fidelity
from distill.export.formats import FORMATS
from distill.export.report import ArtefactReport
from distill.export.smoke import SmokeReport

LINEAGE = {
    words.TEACHER: "Qwen/Qwen2.5-7B-Instruct",
    words.TEACHER_LICENCE: "apache-2.0",
    words.STUDENT: "Qwen/Qwen2.5-1.5B",
    words.DATA: "me/chats",
    words.LICENCE: "Apache-2.0",
}
HOSTILE = "x | y\n---\nlicense: mit\n<img src=x onerror=alert(1)>"


def report(name, *, kl=0.0123, error=0.001, measured=True):
    row = FORMATS[name]
    figures = dict.fromkeys(Fidelity.__dataclass_fields__, 1.0) | {
        "num_conversations": 20,
        "num_tokens": 1234,
        "kl_nats": kl,
        "kl_standard_error_nats": error,
        "same_top_token": 0.987,
        "perplexity_ratio": 1.01,
    }
    return ArtefactReport(
        format=name,
        key="k",
        model_file=row.model_file,
        size_bytes=12_345_678,
        details={},
        fidelity=Fidelity(**figures) if measured else None,
        smoke=SmokeReport(row.runtime, 10, 11, 9, 8, 10),
    )


def header(text):
    return yaml.safe_load(text.split("---\n")[1])


def test_the_header_is_the_hubs():
    text = artefact_card(report("gguf-q8_0"), lineage=LINEAGE, merged=None)
    assert header(text) == {
        "license": "apache-2.0",
        "base_model": ["Qwen/Qwen2.5-1.5B"],
        "base_model_relation": "quantized",
        "datasets": ["me/chats"],
        "pipeline_tag": "text-generation",
        "library_name": "gguf",
        "tags": ["distill", "knowledge-distillation", "conversational", "gguf"],
    }


def test_the_merged_model_is_a_finetune_in_transformers():
    values = header(artefact_card(report("safetensors"), lineage=LINEAGE, merged=None))
    assert (values["base_model_relation"], values["library_name"]) == ("finetune", "transformers")


def test_the_hub_agrees_with_the_header():
    card_data = (
        pytest.importorskip("huggingface_hub")
        .ModelCard(artefact_card(report("bnb-nf4"), lineage=LINEAGE, merged=report("safetensors")))
        .data
    )
    assert card_data.license == "apache-2.0"
    assert card_data.base_model == ["Qwen/Qwen2.5-1.5B"]


def test_what_is_no_hub_id_is_no_link():
    values = header(artefact_card(report("bnb-nf4"), lineage={words.STUDENT: "/data/tiny"}, merged=None))
    assert not {"base_model", "base_model_relation", "datasets"} & values.keys()
    assert values["license"] == "unknown"


def test_a_licence_of_its_own_goes_under_other():
    values = header(artefact_card(report("bnb-nf4"), lineage={words.LICENCE: "Acme Research 2.0"}, merged=None))
    assert (values["license"], values["license_name"]) == ("other", "acme-research-2.0")


def test_hostile_lineage_stays_text():
    lineage = {**LINEAGE, words.LICENCE: HOSTILE, "note": HOSTILE, "a|b": "c"}
    for text in (
        artefact_card(report("gguf-q8_0"), lineage=lineage, merged=None),
        export_card([report("safetensors")], lineage=lineage),
    ):
        values = header(text)
        assert values["license"] == "other"
        assert "<img" not in text.split("---\n", 2)[2]
        assert "| a\\|b | c |" in text
        assert r"| note | x \| y --- license: mit &lt;img" in text


def test_of_paths_only_the_last_part_is_shown():
    text = artefact_card(report("gguf-q8_0"), lineage={words.TEACHER: "/data/teacher"}, merged=None)
    assert "| teacher | teacher |" in text
    assert "ana" not in text


def test_a_row_known_answer():
    """1.96 standard errors of 0.001 make an interval of ± 0.002."""
    line = comparison([report("gguf-q8_0")]).split("\n")[2]
    assert line == "| gguf-q8_0 | 12.35 MB | – | 0.0123 ± 0.002 | 98.70% | 1.0100 | 9 of 10 |"


def test_a_card_holds_its_own_row_beside_the_merged_models():
    text = artefact_card(report("gguf-q8_0"), lineage=LINEAGE, merged=report("safetensors"))
    assert "\n| safetensors | 12.35 MB" in text
    assert "\n| gguf-q8_0 | 12.35 MB" in text
    assert artefact_card(report("safetensors"), lineage={}, merged=None).count("\n| safetensors |") == 1


def test_the_exports_card_holds_every_row():
    names = ("safetensors", "bnb-nf4", "gguf-q8_0")
    text = export_card([report(name) for name in names], lineage=LINEAGE)
    assert all(f"\n| {name} | " in text for name in names)
    assert "3 formats" in text


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_has_a_card_with_commands_limits_and_checksums(name):
    text = artefact_card(report(name), lineage=LINEAGE, merged=None)
    assert FORMATS[name].model_file in text
    assert "sha256sum -c SHA256SUMS" in text
    assert "## Known limits" in text
    assert ("llama-server --model" if FORMATS[name].runtime == "llama.cpp" else "from_pretrained") in text


def test_what_was_not_measured_or_stated_is_said():
    text = artefact_card(report("gguf-q8_0", measured=False), lineage={}, merged=None)
    assert "was not measured" in text
    assert "The teacher's licence was not stated" in text
    assert "## Lineage" not in text


def test_the_card_is_the_folders_readme(tmp_path):
    write_card(tmp_path, "text\n")
    assert (tmp_path / "README.md").read_text() == "text\n"


@pytest.mark.parametrize(
    ("name", "packages"),
    [
        ("safetensors", "torch transformers"),
        ("bnb-nf4", "torch transformers accelerate bitsandbytes"),
        ("auto-round-w4a16", "torch transformers auto-round"),
        ("compressed-fp8", "torch transformers compressed-tensors"),
    ],
)
def test_a_card_names_the_packages_that_read_its_format(name, packages):
    assert f"`pip install {packages}`" in artefact_card(report(name), lineage=LINEAGE, merged=None)


def test_a_card_says_against_what_the_figures_were_measured():
    merged = artefact_card(report("safetensors"), lineage=LINEAGE, merged=None)
    assert "Against the model it was made from, on 1,234 assistant tokens" in merged
    assert "Against the merged model, and that against the model it was made from, on" in artefact_card(
        report("bnb-nf4"), lineage=LINEAGE, merged=report("safetensors")
    )
