from eval.speed.export_memory_figures import ExportMemory, MemoryRow


def test_the_table_says_how_many_times_the_model_a_job_needs():
    row = MemoryRow(job="merge", elapsed_s=1.0, peak_bytes=3_000_000, file_bytes=1_000_000, ratio=1.5)
    figures = ExportMemory(model="m", num_parameters=1_000_000, bfloat16_bytes=2_000_000, rows=(row,))
    assert "| merge | 3 | 1 | 1.50 | 1 |" in figures.to_markdown()
