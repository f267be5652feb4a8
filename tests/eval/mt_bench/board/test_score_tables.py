from eval.mt_bench.board import BenchmarkReport
from eval.mt_bench.board.score_tables import (
    canary_table,
    category_table,
    difference_table,
    fastchat_score_table,
    repeat_table,
    score_table,
    turn_table,
)


def test_counts_stand_beside_the_mean_with_what_it_could_be(report: BenchmarkReport):
    table = score_table(report.board.single[0])
    row = table.rows[1]
    assert (row["model"], row["ok"], row["ambiguous"], row["unscored"], row["missing"]) == ("student", 28, 1, 1, 0)
    assert table.notes[0].startswith("student: 1 of 30 verdicts have no score; ")
    assert " to " in str(row["if all of those were 1 or 10"])


def test_breakdowns_have_a_cell_for_each_model(report: BenchmarkReport):
    board = report.board.single[0]
    assert turn_table(board).headings == ["model", "turn 1", "turn 2"]
    assert category_table(board).headings == ["category", "teacher", "student", "student-q4"]
    assert [row["category"] for row in category_table(board).rows] == ["harbour", "kitchen", "sums"]


def test_differences_say_who_is_better_or_that_nobody_can_tell(report: BenchmarkReport):
    table = difference_table(report.board.single[0])
    assert table.rows[0]["first minus second"] == "teacher − student"
    assert table.rows[0]["reading"] == "teacher is better"
    assert "not corrected" in table.notes[0]


def test_what_was_not_asked_for_has_no_rows(report: BenchmarkReport):
    board = report.board.single[0]
    plain = board.model_copy(update={"scores": tuple(s.model_copy(update={"fastchat": None}) for s in board.scores)})
    assert fastchat_score_table(plain).rows == repeat_table(plain).rows == canary_table(plain).rows == ()


def test_fastchats_numbers_stand_beside(report: BenchmarkReport):
    row = fastchat_score_table(report.board.single[0]).rows[1]
    assert (row["model"], row["rows"], row["failed rows, left out"]) == ("student", 30, 1)
    assert float(str(row["average"])) > 1
