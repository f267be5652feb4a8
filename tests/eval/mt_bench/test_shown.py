from eval.mt_bench.board import BoardSettings, Scoreboard
from eval.mt_bench.shown import failing_tables


def test_a_board_of_no_judge_has_no_table():
    board = Scoreboard(
        benchmark="b",
        num_questions=0,
        num_turns=0,
        categories={},
        models=(),
        settings=BoardSettings(),
        lengths=(),
        single=(),
        pair=(),
        agreement=(),
        panels=(),
        verdicts_in_answers={},
    )
    assert failing_tables(board) == []
