import math
from pathlib import Path

from distill.files import read_json, write_jsonl
from distill.progress import MetricsWriter
from distill.training.report import METRICS_NAME, Ending, finished_report, mark_finished, report_of

ENDING = Ending("no improvement", 1, True)


def write_run(folder: Path) -> None:
    rows = [
        {"step": 1, "loss": 3.0, "total_tokens": 10, "elapsed_s": 1.0},
        {"step": 2, "loss": 2.0, "total_tokens": 30, "elapsed_s": 2.0},
        {"step": 1, "valid_loss": 2.25, "elapsed_s": 1.5},
        {"step": 2, "valid_loss": 2.5, "elapsed_s": 4.0},
    ]
    write_jsonl(folder / METRICS_NAME, rows)
    (folder / "model").mkdir()


def test_a_report_is_told_by_the_metrics(tmp_path: Path):
    """30 tokens in 4 seconds: 7.5 a second."""
    write_run(tmp_path)
    report = report_of(tmp_path, ENDING)
    assert (report.final_step, report.final_loss, report.valid_loss) == (2, 2.0, 2.5)
    assert (report.best_step, report.best_valid_loss) == (1, 2.25)
    assert (report.stop_reason, report.model_step, report.is_average) == ("no improvement", 1, True)
    assert report.tokens_per_s == 7.5
    assert report.to_json()["model_folder"] == str(tmp_path / "model")


def test_a_run_is_finished_for_its_own_fingerprint_only(tmp_path: Path):
    write_run(tmp_path)
    assert finished_report(tmp_path, "mine") is None
    mark_finished(tmp_path, "mine", ENDING)
    assert finished_report(tmp_path, "mine") == report_of(tmp_path, ENDING)
    assert finished_report(tmp_path, "other") is None


def test_a_run_whose_model_is_gone_is_not_finished(tmp_path: Path):
    write_run(tmp_path)
    mark_finished(tmp_path, "mine", ENDING)
    (tmp_path / "model").rmdir()
    assert finished_report(tmp_path, "mine") is None


def test_an_infinite_held_out_loss_does_not_keep_a_run_from_ending(tmp_path: Path):
    """It is written as null, and is never the best."""
    with MetricsWriter(tmp_path / "metrics.jsonl") as writer:
        for step, loss in ((1, math.nan), (2, 1.0), (3, math.inf)):
            writer.write({"step": step, "loss": 1.0, "total_tokens": 1, "elapsed_s": 1.0})
            writer.write({"step": step, "valid_loss": loss, "elapsed_s": 1.0})
    ending = Ending("all steps taken", 3, False)
    mark_finished(tmp_path, "run", ending)
    mark = read_json(tmp_path / "train_report.json")
    assert (mark["valid_loss"], mark["best_step"], mark["best_valid_loss"]) == (None, 2, 1.0)
