from eval.speed.export_memory import ExportMemory, MemoryRow, make_model, measure_here


def test_a_job_is_measured_above_its_own_level(tmp_path):
    make_model("tiny", tmp_path / "model")
    found = measure_here("bnb-nf4", tmp_path / "model", tmp_path / "out")
    assert found.peak_bytes > 0
    assert (tmp_path / "out" / "model.safetensors").exists()


def test_the_table_says_how_many_times_the_model_a_job_needs():
    row = MemoryRow(job="merge", elapsed_s=1.0, peak_bytes=3_000_000, file_bytes=1_000_000, ratio=1.5)
    figures = ExportMemory(model="m", num_parameters=1_000_000, bfloat16_bytes=2_000_000, rows=(row,))
    assert "| merge | 3 | 1 | 1.50 | 1 |" in figures.to_markdown()
