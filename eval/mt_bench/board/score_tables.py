"""One judge's single scores as tables of text."""

from eval.mt_bench.board.cells import Row, Table, better, number, one_shape, p_value, points
from eval.mt_bench.board.scoreboard import SingleBoard
from eval.results import MISSING, share


def score_table(board: SingleBoard) -> Table:
    """Each model's mean with its interval, what is behind it, and what it could be."""
    rows: list[Row] = [
        {
            "model": score.model,
            "mean": points(score.mean, mean=score.table.overall.mean),
            "ok": score.table.overall.num_ok,
            "ambiguous": score.table.overall.num_ambiguous,
            "unscored": score.table.overall.num_unscored,
            "missing": score.table.overall.num_missing,
            "if all of those were 1 or 10": f"{score.table.overall.lower:.2f} to {score.table.overall.upper:.2f}",
        }
        for score in board.scores
    ]
    notes = [f"{score.model}: {score.table.failure_text}." for score in board.scores if score.table.failure_rate]
    return Table(board.protocol.key, tuple(rows), (*notes, *board.notes))


def turn_table(board: SingleBoard) -> Table:
    """Each model's mean in each turn."""
    turns = sorted({turn for score in board.scores for turn in score.table.by_turn})
    rows: list[Row] = []
    for score in board.scores:
        row: Row = {"model": score.model}
        for turn in turns:
            tally = score.table.by_turn.get(turn)
            row[f"turn {turn}"] = points(score.by_turn.get(turn), mean=None if tally is None else tally.mean)
        rows.append(row)
    return Table(f"by turn, judge {board.protocol.judge}", tuple(rows))


def category_table(board: SingleBoard) -> Table:
    """A row for each category, a column for each model."""
    names = sorted({name for score in board.scores for name in score.table.by_category})
    rows: list[Row] = []
    for name in names:
        row: Row = {"category": name}
        for score in board.scores:
            tally = score.table.by_category.get(name)
            row[score.model] = points(score.by_category.get(name), mean=None if tally is None else tally.mean)
        rows.append(row)
    return Table(f"by category, judge {board.protocol.judge}", tuple(rows))


def difference_table(board: SingleBoard) -> Table:
    """Every two models on the same turns."""
    rows: list[Row] = [
        {
            "first minus second": f"{one.first} − {one.second}",
            "difference": points(one.paired.difference, signed=True),
            "p": p_value(one.paired.p_value),
            "smallest detectable": f"{one.smallest_detectable:.2f}",
            "turns": one.num_compared,
            "left out": one.num_left_out,
            "reading": "not told apart"
            if one.includes_zero
            else f"{better(one.first, one.second, one.paired.difference)} is better",
        }
        for one in board.differences
    ]
    notes = (
        ["p by sign flips of whole questions; not corrected for the number of comparisons."] if len(rows) > 1 else []
    )
    return Table(f"paired differences, judge {board.protocol.judge}", tuple(rows), tuple(notes))


def fastchat_score_table(board: SingleBoard) -> Table:
    """What FastChat's `show_result` prints, where it was asked for."""
    rows: list[Row] = [
        {
            "model": score.model,
            "average": MISSING if told.average is None else f"{told.average.value:.6f}",
            **{f"turn {turn}": f"{mean.value:.6f}" for turn, mean in told.by_turn.items()},
            "rows": told.num_rows,
            "failed rows, left out": told.num_failed,
        }
        for score in board.scores
        if (told := score.fastchat) is not None
    ]
    return Table(f"FastChat's own numbers, judge {board.protocol.judge}", one_shape(rows))


def repeat_table(board: SingleBoard) -> Table:
    """How much of a score comes from asking the judge again."""
    rows: list[Row] = [
        {
            "model": score.model,
            "repeats": score.num_repeats,
            "standard error of the mean": f"{score.repeats.judge_standard_error:.3f}",
            "judge's noise on one answer (sd)": f"{score.repeats.residual**0.5:.2f}",
            "shift of a whole run (sd)": f"{score.repeats.between_repeats**0.5:.2f}",
            "reliability": number(score.repeats.reliability),
        }
        for score in board.scores
        if score.repeats is not None
    ]
    return Table(f"the judge asked again, judge {board.protocol.judge}", tuple(rows))


def canary_table(board: SingleBoard) -> Table:
    """How worthless answers fared."""
    rows: list[Row] = [
        {
            "canary": f"{result.figure.kind} answers for {result.of}",
            "scored below the real ones": share(result.figure.caught),
            "real minus canary": points(result.figure.difference.difference, signed=True),
            "questions": result.figure.num_questions,
            "reading": "caught" if result.figure.is_caught else "NOT CAUGHT: this judge measures nothing",
        }
        for result in board.canaries
    ]
    return Table(f"canaries, judge {board.protocol.judge}", tuple(rows))
