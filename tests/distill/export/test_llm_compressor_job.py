import subprocess
import sys

from distill.export.llm_compressor import JOB
from distill.export.llm_compressor_job import _data


def test_windows_are_the_calibration_data_in_their_order():
    found = _data([[5, 6, 7], [8, 9, 1]])
    assert found["dataset"]["input_ids"] == [[5, 6, 7], [8, 9, 1]]
    assert found["dataset"]["attention_mask"] == [[1, 1, 1], [1, 1, 1]]
    assert (found["num_calibration_samples"], found["max_seq_length"]) == (2, 3)
    assert found["shuffle_calibration_samples"] is False


def test_the_process_ends_when_whoever_asked_is_gone():
    code = f"import runpy; runpy.run_path({str(JOB)!r})['_end_with_asker'](); print('still here')"
    done = subprocess.run(
        [sys.executable, "-c", code], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (1, "")


def test_the_program_imports_nothing_of_ours():
    assert "distill" not in JOB.read_text(encoding="utf-8")
