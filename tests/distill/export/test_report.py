import json

import pytest

from distill.errors import ExportError, GateError, RecipeError
from distill.export import verify_export
from distill.export.checksums import write_checksums
from distill.export.fidelity import Fidelity
from distill.export.report import ARTEFACT, ArtefactReport, ExportReport, read_artefact
from distill.export.smoke import SmokeReport


def artefact(name="gguf-q8_0", *, kl=0.01, top=0.99, has_fidelity=True):
    fidelity = Fidelity(
        num_conversations=2,
        num_tokens=100,
        kl_nats=kl,
        kl_standard_error_nats=0.001,
        median_kl_nats=0.005,
        p99_kl_nats=0.1,
        max_kl_nats=0.2,
        same_top_token=top,
        merged_perplexity=2.0,
        perplexity=2.2,
        perplexity_ratio=1.1,
        log_perplexity_ratio=0.0953,
        log_perplexity_ratio_standard_error=0.012,
        mean_delta_p=-0.001,
        rms_delta_p=0.02,
    )
    smoke = SmokeReport("llama.cpp", 10, 11, 9, 8, 10)
    return ArtefactReport(
        format=name,
        key="k",
        model_file="model-q8_0.gguf",
        size_bytes=12345,
        details={"bits_per_weight": 8.5},
        fidelity=fidelity if has_fidelity else None,
        smoke=smoke,
    )


def report(tmp_path, *artefacts):
    return ExportReport(output_dir=tmp_path, artefacts=artefacts)


def write(folder, row):
    folder.mkdir(parents=True)
    (folder / ARTEFACT).write_text(row.model_dump_json())
    write_checksums(folder)


def test_gates_that_are_met_say_nothing(tmp_path):
    report(tmp_path, artefact()).require_gates(max_kl=0.01, min_top1=0.99)
    report(tmp_path, artefact(has_fidelity=False)).require_gates(max_kl=0.01, min_top1=0.99)


def test_every_miss_is_named(tmp_path):
    rows = artefact(kl=0.5), artefact("gguf-q4_0", top=0.5)
    with pytest.raises(GateError, match=r"gguf-q8_0 has KL 0\.5 nats.*gguf-q4_0 keeps 50\.00%"):
        report(tmp_path, *rows).require_gates(max_kl=0.02, min_top1=0.9)


def test_an_artefact_survives_its_file(tmp_path):
    write(tmp_path / "gguf-q8_0", artefact())
    assert read_artefact(tmp_path / "gguf-q8_0") == artefact()
    assert verify_export(tmp_path).artefacts == (artefact(),)


def test_a_damaged_artefact_is_found(tmp_path):
    write(tmp_path / "gguf-q8_0", artefact())
    (tmp_path / "gguf-q8_0" / ARTEFACT).write_text("{}")
    with pytest.raises(ExportError, match="has changed"):
        verify_export(tmp_path)


def test_a_report_of_another_kind_is_refused(tmp_path):
    (tmp_path / ARTEFACT).write_text("{}")
    write_checksums(tmp_path)
    with pytest.raises(ExportError, match=r"artefact\.json is not readable"):
        read_artefact(tmp_path)


def test_a_folder_without_artefacts_is_refused(tmp_path):
    with pytest.raises(RecipeError, match="holds no artefacts"):
        verify_export(tmp_path)


def test_rows_and_json_hold_the_figures(tmp_path):
    whole = report(tmp_path, artefact())
    row = whole.rows()[0]
    assert (row["format"], row["kl_nats"], row["same_text"]) == ("gguf-q8_0", 0.01, "9/10")
    assert row["path"] == str(tmp_path / "gguf-q8_0" / "model-q8_0.gguf") == str(whole.path("gguf-q8_0"))
    values = json.loads(json.dumps(whole.to_json()))
    assert values["gguf-q8_0"]["fidelity"]["kl_nats"] == 0.01


def test_the_card_shows_the_figures():
    figures = artefact().figures()
    assert figures["KL divergence, nats per token (± standard error)"] == "0.01 ± 0.001"
    assert figures["same greedy answer in llama.cpp"] == "9 of 10 prompts"
    assert figures["bits per weight"] == "8.50"
    assert figures["natural logarithm of that ratio (± standard error)"] == "0.095 ± 0.012"
    assert figures["change of the next token's probability, mean / root mean square"] == "-0.100% / 2.000%"
    assert "perplexity, ratio to before" not in artefact(has_fidelity=False).figures()


def test_an_artefact_says_what_it_is_recommended_as(tmp_path):
    rows = artefact("safetensors", kl=0.0), artefact("gguf-q8_0", kl=5e-3), artefact("gguf-q4_0", kl=0.5)
    whole = report(
        tmp_path, *(row.model_copy(update={"size_bytes": n}) for row, n in zip(rows, (9, 5, 4), strict=True))
    )
    assert [point.name for point in whole.points()] == ["gguf-q8_0", "gguf-q4_0"]
    said = {name: value["recommended_as"] for name, value in whole.to_json().items()}
    bounds = [f"smallest with a KL of at most {bound} nats" for bound in ("0.01", "0.1")]
    assert said["safetensors"] == []
    assert said["gguf-q8_0"] == bounds
    assert said["gguf-q4_0"] == ["nearest in at most 0.00 MB (50% of the merged model)"]
    assert report(tmp_path, rows[1]).recommendations() == []
