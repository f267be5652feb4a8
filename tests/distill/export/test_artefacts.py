import json
import shutil

import pytest
from safetensors.torch import load_file, save_file

from distill.errors import ExportError, GateError, ModelError, RecipeError
from distill.export import ExportSettings, export_model, verify_export
from distill.models import load_model

FORMATS = ("bnb-nf4", "gguf-q8_0")


def settings(**values):
    return ExportSettings(formats=FORMATS, max_new_tokens=40, measures_speed=False, **values)


@pytest.fixture(scope="session")
def exported(llama_folder, dialogues, tmp_path_factory):
    folder = tmp_path_factory.mktemp("export")
    report = export_model(
        llama_folder,
        formats=FORMATS,
        output_dir=folder,
        prompts=dialogues,
        settings=settings(teacher=str(llama_folder)),
        lineage={"teacher": "barista"},
    )
    return folder, report


def test_the_merged_model_always_comes_first(exported):
    _, report = exported
    assert [a.format for a in report.artefacts] == ["safetensors", *FORMATS]
    assert report.artefacts[0].fidelity.kl_nats == 0.0


def test_each_artefact_is_near_and_answers(exported):
    for artefact in exported[1].artefacts:
        assert artefact.fidelity.kl_nats < 0.05
        assert artefact.smoke.num_same_token_ids == 11


def test_each_artefact_says_how_it_is_stored_and_how_far_its_teacher_is(exported):
    """The teacher is the model itself: the merged one is at no distance, the others where they are from it."""
    for artefact in exported[1].artefacts:
        assert artefact.teacher.merged_kl_nats == pytest.approx(0.0, abs=1e-7)
        assert artefact.teacher.kl_nats == pytest.approx(artefact.fidelity.kl_nats, rel=1e-3, abs=1e-6)
    bits = {a.format: a.weights.bits_per_weight for a in exported[1].artefacts}
    assert bits["safetensors"] == 32.0
    assert 8.5 <= bits["gguf-q8_0"] < 9.5
    assert bits["bnb-nf4"] < 32.0


def test_the_page_stands_beside_the_json(exported):
    page = (exported[0] / "report.html").read_text(encoding="utf-8")
    assert all(f"<td>{name}</td>" in page for name in ("safetensors", *FORMATS))


def test_a_quantized_artefact_is_smaller(exported):
    sizes = {a.format: a.size_bytes for a in exported[1].artefacts}
    assert sizes["bnb-nf4"] < sizes["safetensors"]
    assert sizes["gguf-q8_0"] < sizes["safetensors"] / 3


def test_each_folder_holds_card_report_and_checksums(exported):
    folder, report = exported
    assert verify_export(folder).artefacts == tuple(sorted(report.artefacts, key=lambda a: a.format != "safetensors"))
    assert "| teacher | barista |" in (folder / "gguf-q8_0" / "README.md").read_text()
    assert set(json.loads((folder / "report.json").read_text())) == {"safetensors", *FORMATS}
    assert load_model(report.path("bnb-nf4")).tokenizer.chat_template


def test_no_partial_folder_is_left(exported):
    assert {path.name for path in exported[0].iterdir()} == {
        "safetensors",
        *FORMATS,
        "report.json",
        "checks.json",
        "report.html",
        "README.md",
        ".lock",
    }


def test_a_finished_artefact_is_kept_and_a_damaged_one_made_again(exported, llama_folder, dialogues, tmp_path):
    shutil.copytree(exported[0], tmp_path / "out")
    damaged = tmp_path / "out" / "gguf-q8_0" / "model-q8_0.gguf"
    whole = damaged.read_bytes()
    damaged.write_bytes(whole[:-1])
    times = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "out").glob("*") if path.is_dir()}
    report = export_model(
        llama_folder,
        formats=FORMATS,
        output_dir=tmp_path / "out",
        prompts=dialogues,
        settings=settings(max_kl=1.0, teacher=str(llama_folder)),
        lineage={"teacher": "barista"},
    )
    now = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "out").glob("*") if path.is_dir()}
    assert [name for name in times if now[name] != times[name]] == ["gguf-q8_0"]
    assert damaged.read_bytes() == whole
    assert report.artefacts == exported[1].artefacts


def test_the_exports_card_counts_earlier_formats_too(exported, llama_folder, dialogues, tmp_path):
    """A format that is added later does not make the table forget the others."""
    shutil.copytree(exported[0], tmp_path / "out")
    export_model(
        llama_folder,
        formats=("safetensors",),
        output_dir=tmp_path / "out",
        prompts=dialogues,
        settings=settings(teacher=str(llama_folder)),
        lineage={"teacher": "barista"},
    )
    card = (tmp_path / "out" / "README.md").read_text()
    assert all(f"\n| {name} | " in card for name in ("safetensors", *FORMATS))
    own = (tmp_path / "out" / "gguf-q8_0" / "README.md").read_text()
    assert "\n| safetensors | " in own
    assert "\n| bnb-nf4 | " not in own


def test_another_model_replaces_the_artefact(exported, qwen2_folder, dialogues, tmp_path):
    shutil.copytree(exported[0] / "safetensors", tmp_path / "safetensors")
    export_model(
        qwen2_folder, formats=("safetensors",), output_dir=tmp_path, prompts=dialogues[:2], settings=settings()
    )
    assert json.loads((tmp_path / "safetensors" / "config.json").read_text())["model_type"] == "qwen2"


def test_without_chats_no_divergence_is_reported(llama_folder, tmp_path):
    report = export_model(llama_folder, formats=("safetensors",), output_dir=tmp_path, settings=settings())
    assert report.artefacts[0].fidelity is None
    assert report.artefacts[0].smoke.num_same_text == 10


def test_a_missed_gate_leaves_the_artefacts(llama_folder, dialogues, tmp_path):
    gates = ExportSettings(formats=("gguf-q4_0",), max_kl=1e-6, measures_speed=False)
    with pytest.raises(GateError, match=r"gguf-q4_0 has KL .* nats, export\.max_kl is 1e-06"):
        export_model(llama_folder, formats=("gguf-q4_0",), output_dir=tmp_path, prompts=dialogues[:2], settings=gates)
    assert (tmp_path / "gguf-q4_0" / "model-q4_0.gguf").exists()
    assert (tmp_path / "report.json").exists()


def test_a_gate_without_chats_is_refused(llama_folder, tmp_path):
    with pytest.raises(RecipeError, match="there are no held-out conversations"):
        export_model(llama_folder, formats=FORMATS, output_dir=tmp_path, settings=settings(min_top1=0.9))


def test_a_file_in_the_folders_place_is_refused(llama_folder, tmp_path):
    (tmp_path / "out").write_text("mine")
    with pytest.raises(RecipeError, match=r"out is a file"):
        export_model(llama_folder, formats=FORMATS, output_dir=tmp_path / "out")
    assert (tmp_path / "out").read_text() == "mine"


def test_a_missing_model_is_refused_before_anything_is_written(tmp_path):
    with pytest.raises(ModelError, match="does not exist"):
        export_model(tmp_path / "nowhere", formats=FORMATS, output_dir=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_unknown_format_is_refused(llama_folder, tmp_path):
    with pytest.raises(RecipeError, match="did you mean bnb-nf4"):
        export_model(llama_folder, formats=("bnb-nf",), output_dir=tmp_path)


def test_a_failed_artefact_does_not_appear(llama_folder, tmp_path):
    """A Llama with a tensor that GGUF has no place for is still a model to transformers."""
    shutil.copytree(llama_folder, tmp_path / "model")
    config = json.loads((tmp_path / "model" / "config.json").read_text())
    config["rope_parameters"] = {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 10000.0}
    (tmp_path / "model" / "config.json").write_text(json.dumps(config))
    weights = load_file(tmp_path / "model" / "model.safetensors")
    save_file(weights, tmp_path / "model" / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ExportError, match=r"gguf-f16: config\.json: rope_type is 'dynamic'"):
        export_model(tmp_path / "model", formats=("gguf-f16",), output_dir=tmp_path / "out", settings=settings())
    assert not (tmp_path / "out" / "gguf-f16").exists()
    assert (tmp_path / "out" / "safetensors").exists()
