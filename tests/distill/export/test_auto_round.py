import pytest

from distill.export.auto_round import write_auto_round
from distill.export.weight_error import weight_report
from distill.export.writing import Writing
from distill.files import read_json


@pytest.mark.builds
@pytest.mark.slow
def test_the_reloaded_model_has_the_numbers_that_the_files_stand_for(llama_folder, tmp_path):
    pytest.importorskip("auto_round", reason="needs pip install 'auto-round>=0.16'")
    details = write_auto_round(llama_folder, tmp_path, Writing())
    assert details["method"] == "rounded to nearest, without calibration chats"
    assert details["group_size"] == 32
    assert details["reload_delta"] < 1e-4
    report = weight_report(tmp_path, merged_folder=llama_folder)
    assert report.num_tensors_by_type["INT4"] == 14
    assert report.num_unread_tensors == 0
    assert 0 < report.worst_tensors[0].relative_rmse < 0.15
    assert read_json(tmp_path / "config.json")["quantization_config"]["bits"] == 4


@pytest.mark.builds
@pytest.mark.slow
def test_fitting_to_chats_gives_other_weights_each_time_the_same(qwen2_folder, dialogues, tmp_path):
    pytest.importorskip("auto_round", reason="needs pip install 'auto-round>=0.16'")
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        how = Writing(calibration=tuple(dialogues[:4]))
        details = write_auto_round(qwen2_folder, tmp_path / name, how, num_iterations=3)
        assert details["method"] == "fitted to calibration chats"
        assert details["num_calibration_windows"] >= 1
    first, second = (tmp_path / name / "model.safetensors" for name in ("first", "second"))
    assert first.read_bytes() == second.read_bytes()
