import subprocess
import sys

from distill.export.auto_round import JOB
from distill.export.auto_round_job import _method


def test_without_windows_weights_are_rounded_to_nearest():
    assert _method([], iterations=7) == {"iters": 0, "disable_opt_rtn": True}


def test_with_windows_roundings_are_fitted_to_all_of_them():
    found = _method([[5, 6, 7], [8, 9, 1]], iterations=7)
    assert (found["iters"], found["nsamples"], found["seqlen"], found["batch_size"]) == (7, 2, 3, 2)
    assert [rows.tolist() for rows in found["dataset"]] == [[[5, 6, 7]], [[8, 9, 1]]]


def test_the_process_ends_when_whoever_asked_is_gone():
    code = f"import runpy; runpy.run_path({str(JOB)!r})['_end_with_asker'](); print('still here')"
    done = subprocess.run(
        [sys.executable, "-c", code], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (1, "")


def test_the_program_imports_nothing_of_ours():
    assert "distill" not in JOB.read_text(encoding="utf-8")
