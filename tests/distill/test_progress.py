import io
import logging
import time

import pytest

from distill.progress import MetricsWriter, _draws_bars, read_metrics, tracked


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def clock(monkeypatch):
    """A clock that moves when told."""
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return now


@pytest.fixture
def log_file(monkeypatch, caplog):
    """Standard error that is no terminal, and the log."""
    monkeypatch.setattr("sys.stderr", io.StringIO())
    caplog.set_level(logging.INFO)
    return caplog


def test_plain_lines_come_at_intervals_with_the_time_left(clock, log_file):
    """5 of 20 in 10 s: 15 are left at 2 s each. The line at 15 s comes too soon after it."""
    with tracked("scoring", 20) as tracker:
        clock[0] += 10
        tracker.advance(5, figures={"loss": 0.5})
        clock[0] += 5
        tracker.advance(3, figures={"loss": 0.25})
    assert [record.getMessage() for record in log_file.records] == [
        "scoring: 5 of 20, 30 s left loss 0.5",
        "scoring: 8 of 20 in 15.0 s loss 0.25",
    ]


def fail_after_two_of(total):
    with tracked("scoring", total) as tracker:
        tracker.advance(2)
        raise ValueError("broken")


def test_work_that_fails_says_how_far_it_came(clock, log_file):
    with pytest.raises(ValueError, match="broken"):
        fail_after_two_of(20)
    assert [record.getMessage() for record in log_file.records] == ["scoring: 2 of 20 in 0.0 s"]


def test_a_terminal_shows_a_bar(monkeypatch, caplog):
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    caplog.set_level(logging.INFO)
    with tracked("scoring", 4) as tracker:
        tracker.advance(4, figures={"loss": 0.25})
    assert "scoring" in terminal.getvalue()
    assert "4/4" in terminal.getvalue()
    assert "loss 0.25" in terminal.getvalue()
    assert not caplog.records


def test_metrics_are_read_back_as_written(tmp_path):
    path = tmp_path / "run" / "metrics.jsonl"
    with MetricsWriter(path) as writer:
        writer.write({"step": 0, "loss": 1.5})
        assert read_metrics(path) == [{"step": 0, "loss": 1.5}]
        writer.write({"step": 1, "loss": 1.25})
    assert read_metrics(path) == [{"step": 0, "loss": 1.5}, {"step": 1, "loss": 1.25}]


def test_a_resumed_run_drops_the_rows_it_will_write_again(tmp_path):
    path = tmp_path / "metrics.jsonl"
    with MetricsWriter(path) as writer:
        for step in range(4):
            writer.write({"step": step})
    with MetricsWriter(path, keep_below_step=2) as writer:
        writer.write({"step": 2, "loss": 1.0})
    assert read_metrics(path) == [{"step": 0}, {"step": 1}, {"step": 2, "loss": 1.0}]


def test_a_fresh_run_begins_with_no_rows(tmp_path):
    path = tmp_path / "metrics.jsonl"
    for _ in range(2):
        with MetricsWriter(path) as writer:
            writer.write({"step": 0})
    assert read_metrics(path) == [{"step": 0}]


def test_a_line_cut_off_by_a_crash_is_left_out(tmp_path, caplog):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 0}\n{"step": 1, "lo', encoding="utf-8")
    assert read_metrics(path) == [{"step": 0}]
    assert "left out a line that is not JSON" in caplog.text
    with MetricsWriter(path, keep_below_step=9) as writer:
        writer.write({"step": 1})
    assert read_metrics(path) == [{"step": 0}, {"step": 1}]


def test_no_metrics_file_holds_no_rows(tmp_path):
    assert read_metrics(tmp_path / "none.jsonl") == []


def test_workers_and_other_ranks_draw_no_bar_on_the_terminal(monkeypatch):
    """One process has the terminal; the others would write over its bar."""
    monkeypatch.setattr("sys.stderr", Terminal())
    assert _draws_bars()
    monkeypatch.setenv("RANK", "1")
    assert not _draws_bars()
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setattr("multiprocessing.parent_process", lambda: object())
    assert not _draws_bars()


def test_infinite_figures_outlive_a_resume(tmp_path):
    path = tmp_path / "metrics.jsonl"
    with MetricsWriter(path) as writer:
        writer.write({"step": 1, "valid_loss": float("inf")})
        writer.write({"step": 2, "loss": 1.0})
    with MetricsWriter(path, keep_below_step=2):
        pass
    assert read_metrics(path) == [{"step": 1, "valid_loss": float("inf")}]
