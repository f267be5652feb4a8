from eval.mt_bench.board import BenchmarkReport
from eval.mt_bench.board.pair_tables import (
    fastchat_record_table,
    matchup_table,
    position_table,
    record_table,
    strength_table,
)


def test_errors_stand_beside_the_record_with_what_it_could_be(report: BenchmarkReport):
    table = record_table(report.board.pair[0])
    row = next(row for row in table.rows if row["model"] == "student")
    assert (row["errors"], row["missing"]) == (1, 0)
    assert int(str(row["wins"])) + int(str(row["ties"])) + int(str(row["losses"])) == 59
    assert any(note.startswith("student: 1 of 60 comparisons have no verdict") for note in table.notes)


def test_every_two_models_have_a_line(report: BenchmarkReport):
    table = matchup_table(report.board.pair[0])
    assert len(table.rows) == 3
    assert "LC-minimal win rate" in table.headings
    assert "not corrected" in table.notes[-1]


def test_the_anchor_has_no_interval(report: BenchmarkReport):
    board = report.board.pair[0]
    assert board.strengths is not None
    anchor = next(row for row in strength_table(board).rows if row["model"] == board.strengths.baseline)
    assert anchor == {
        "model": board.strengths.baseline,
        "strength (log-odds)": "0, the anchor",
        "on Elo's scale": "1000",
    }
    assert strength_table(board.model_copy(update={"strengths": None})).rows == ()


def test_leanings_are_told_with_their_counts(report: BenchmarkReport):
    rows = {row["what"]: row for row in position_table(report.board.pair[0]).rows}
    assert rows["both orders agree"]["of"] == "89 pairs"
    assert str(rows["first slot, where orders disagree"]["of"]).startswith("2 of 2")
    assert "longer answer won" in rows


def test_fastchats_numbers_stand_beside(report: BenchmarkReport):
    """The file's winners are all ties, whatever the texts say: FastChat counts what is stored."""
    board = report.board.pair[0]
    assert [row["tie"] for row in fastchat_record_table(board).rows] == [60, 60, 60]
    plain = board.model_copy(update={"records": tuple(r.model_copy(update={"fastchat": None}) for r in board.records)})
    assert fastchat_record_table(plain).rows == ()
