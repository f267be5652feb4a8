import pytest

from distill.errors import DataError
from distill.settings import validated
from eval.mt_bench.board import Benchmark, BenchmarkReport, BoardSettings, Scoreboard, scoreboard


def test_every_key_names_judge_prompts_and_references(report: BenchmarkReport):
    assert [one.protocol.key for one in report.board.judged] == [
        "tides | single | judge judge-one | prompts single-v1 | references by hand | strict reading",
        "tides | single | judge judge-two | prompts single-v1 | references not recorded | strict reading",
        "tides | pair | judge judge-one | prompts pair-v2 | references by hand | strict reading",
    ]


def test_the_document_reads_back(report: BenchmarkReport):
    twin = report.board.model_dump(mode="json")
    assert validated(Scoreboard, twin, source="twin") == report.board


def test_the_same_files_and_seed_give_the_same_document(benchmark: Benchmark, report: BenchmarkReport):
    assert scoreboard(benchmark, settings=report.board.settings) == report.board


def test_both_judges_are_compared(report: BenchmarkReport):
    board = report.board
    assert [(one.first, one.second, one.mode) for one in board.agreement] == [("judge-one", "judge-two", "single")]
    assert [panel.judges for panel in board.panels] == [("judge-one", "judge-two")]
    assert board.judges == ["judge-one", "judge-two"]


def test_lengths_and_sizes_are_counted(report: BenchmarkReport):
    board = report.board
    assert (board.num_questions, board.num_turns) == (15, 30)
    assert board.categories == {"harbour": 5, "kitchen": 5, "sums": 5}
    assert [(one.model, one.num_answers, one.num_empty) for one in board.lengths] == [
        ("teacher", 30, 1),
        ("student", 30, 1),
        ("student-q4", 30, 1),
    ]


def test_a_baseline_leaves_other_pairs_out(benchmark: Benchmark, quick: BoardSettings):
    board = scoreboard(benchmark, settings=quick.model_copy(update={"baseline": "teacher"}))
    pair = board.pair[0]
    assert [record.model for record in pair.records if record.model == "teacher"] == []
    assert {(one.first, one.second) for one in pair.matchups} == {("student", "teacher"), ("student-q4", "teacher")}
    assert pair.strengths is not None
    assert pair.strengths.baseline == "teacher"
    with pytest.raises(DataError, match="baseline nobody"):
        scoreboard(benchmark, settings=quick.model_copy(update={"baseline": "nobody"}))
