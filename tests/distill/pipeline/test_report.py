from distill.files import read_json
from distill.pipeline.report import measured_models
from distill.pipeline.run_folder import RunFolder


def test_the_page_and_its_twin_tell_of_every_stage(finished: RunFolder):
    page = (finished.stage("report") / "report.html").read_text()
    twin = read_json(finished.stage("report") / "report.json")
    assert [row["name"] for row in twin["stages"]] == ["prepare", "pairs", "cache", "train", "export", "evaluate"]
    assert {row["status"] for row in twin["stages"]} == {"done"}
    assert "&lt;once&gt;" in page
    assert "<once>" not in page


def test_the_report_shows_curves_fidelity_and_samples(finished: RunFolder):
    twin = read_json(finished.stage("report") / "report.json")
    assert [row["step"] for row in twin["curves"]["train"]] == [1, 2]
    assert [row["format"] for row in twin["fidelity"]] == ["safetensors"]
    assert [answer["model"] for answer in twin["samples"][0]["turns"][0]["answers"]] == [
        "teacher",
        "student after daDPO",
    ]


def test_models_stand_teacher_first(finished: RunFolder):
    assert [model.kind for model in measured_models(finished)] == ["teacher", "student"]
