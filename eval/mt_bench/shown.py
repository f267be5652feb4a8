"""Which tables of a scoreboard the gate on missing verdicts reads: every real model's, canaries left out."""

from eval.mt_bench.board import Scoreboard, is_canary
from eval.mt_bench.strict import StrictScore
from eval.mt_bench.strict_pair import StrictWinRate


def failing_tables(board: Scoreboard) -> list[StrictScore | StrictWinRate]:
    """The strict tables of all judges, single and pairs."""
    tables: list[StrictScore | StrictWinRate] = [score.table for one in board.single for score in one.scores]
    tables += [record.table for one in board.pair for record in one.records]
    return [table for table in tables if not is_canary(table.model)]
