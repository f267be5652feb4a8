from eval.speed.export_memory import make_model, measure_here


def test_a_job_is_measured_above_its_own_level(tmp_path):
    make_model("tiny", tmp_path / "model")
    found = measure_here("bnb-nf4", tmp_path / "model", tmp_path / "out")
    assert found.peak_bytes > 0
    assert (tmp_path / "out" / "model.safetensors").exists()
