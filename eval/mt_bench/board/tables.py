"""The scoreboard as tables of text: for the terminal, and for the page."""

from eval.mt_bench.board.cells import Row, Table, number, one_shape, points
from eval.mt_bench.board.guards import kin_warnings
from eval.mt_bench.board.pair_tables import (
    fastchat_record_table,
    game_repeat_table,
    matchup_table,
    position_table,
    record_table,
    strength_table,
)
from eval.mt_bench.board.score_tables import (
    canary_table,
    category_table,
    difference_table,
    fastchat_score_table,
    repeat_table,
    score_table,
    turn_table,
)
from eval.mt_bench.board.scoreboard import Scoreboard


def all_tables(board: Scoreboard) -> list[Table]:
    """Every table of a scoreboard that has rows, in the order in which they are read."""
    tables = []
    for single in board.single:
        tables += [score_table(single), turn_table(single), category_table(single), difference_table(single)]
        tables += [fastchat_score_table(single), repeat_table(single), canary_table(single)]
    for pair in board.pair:
        tables += [record_table(pair), matchup_table(pair), strength_table(pair), fastchat_record_table(pair)]
        tables += [position_table(pair), game_repeat_table(pair)]
    tables += [agreement_table(board), length_table(board)]
    return [table for table in tables if table.rows]


def agreement_table(board: Scoreboard) -> Table:
    """How the judges agree with each other."""
    rows: list[Row] = [
        {
            "judges": f"{one.first} and {one.second}",
            "mode": one.mode,
            "compared": one.num_compared,
            "same": f"{100 * one.share_equal:.1f} %",
            "kappa": f"{one.kappa:.2f}",
            "first minus second": points(one.difference, signed=True),
        }
        for one in board.agreement
    ]
    notes = [
        f"Krippendorff's alpha of {', '.join(panel.judges)} ({panel.mode}): {panel.alpha:.2f} over {panel.num_units}."
        for panel in board.panels
    ]
    return Table("agreement between judges", tuple(rows), tuple(notes) if rows else ())


def length_table(board: Scoreboard) -> Table:
    """How long the answers are."""
    by_model = {
        (single.protocol.judge, score.model): score.length_correlation
        for single in board.single
        for score in single.scores
    }
    rows: list[Row] = [
        {
            "model": length.model,
            "mean characters": f"{length.mean:,.0f}",
            **{f"turn {turn}": f"{mean:,.0f}" for turn, mean in length.by_turn.items()},
            "empty": f"{length.num_empty} of {length.num_answers}",
            **{
                f"length and score, {single.protocol.judge}": number(
                    by_model.get((single.protocol.judge, length.model))
                )
                for single in board.single
            },
        }
        for length in board.lengths
    ]
    return Table("answer lengths", one_shape(rows))


def warnings_of(board: Scoreboard) -> list[str]:
    """What a reader must know before the figures, worst first."""
    missed: dict[tuple[str, str], list[str]] = {}
    for single in board.single:
        for result in single.canaries:
            if not result.figure.is_caught:
                missed.setdefault((single.protocol.judge, result.of), []).append(result.figure.kind)
    found = [
        f"judge {judge} did not catch the {' and '.join(kinds)} canaries of {of}: it does not tell worthless answers"
        " from real ones"
        for (judge, of), kinds in missed.items()
    ]
    found += [warning for one in board.judged for warning in kin_warnings(one.kin)]
    found += [
        f"{len(questions)} answers of {model} hold a verdict such as [[10]], which a judge may repeat (questions "
        + ", ".join(map(str, questions[:10]))
        + (" and more)" if len(questions) > 10 else ")")
        for model, questions in board.verdicts_in_answers.items()
    ]
    return list(dict.fromkeys(found))
