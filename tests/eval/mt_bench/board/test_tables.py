import pytest

from distill.cli_output import print_table
from eval.mt_bench.board import BenchmarkReport, all_tables, warnings_of


def test_every_table_prints(report: BenchmarkReport, capsys: pytest.CaptureFixture[str]):
    tables = all_tables(report.board)
    for table in tables:
        assert len({tuple(row) for row in table.rows}) == 1
        print_table(table.title, table.rows, as_json=False)
    printed = capsys.readouterr().out
    assert "judge judge-one | prompts single-v1 | references by hand" in printed
    assert "Bradley-Terry" in printed
    assert "agreement between judges" in printed
    assert "answer lengths" in printed


def test_warnings_name_what_a_reader_must_know(report: BenchmarkReport):
    board = report.board.model_copy(update={"verdicts_in_answers": {"sly": tuple(range(12))}})
    assert warnings_of(board)[-1] == (
        "12 answers of sly hold a verdict such as [[10]], which a judge may repeat"
        " (questions 0, 1, 2, 3, 4, 5, 6, 7, 8, 9 and more)"
    )
