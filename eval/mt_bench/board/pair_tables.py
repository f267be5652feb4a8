"""One judge's comparisons as tables of text."""

from eval.mt_bench.board.cells import Row, Table, number, p_value, points
from eval.mt_bench.board.scoreboard import PairBoard
from eval.results import MISSING, share


def record_table(board: PairBoard) -> Table:
    """Each model's comparisons; a tie unless both orders agree."""
    rows: list[Row] = [
        {
            "model": record.model,
            "win rate, ties half": share(record.outcomes.win_rate if record.outcomes is not None else None),
            "wins": record.table.num_wins,
            "ties": record.table.num_ties,
            "losses": record.table.num_losses,
            "ties by disagreeing orders": record.table.num_inconsistent,
            "ambiguous": record.table.num_ambiguous,
            "errors": record.table.num_errors,
            "missing": record.table.num_missing,
            "if all of those were lost or won": f"{100 * record.table.lower:.1f} to {100 * record.table.upper:.1f} %",
        }
        for record in board.records
    ]
    notes = [f"{record.model}: {record.table.failure_text}." for record in board.records if record.table.failure_rate]
    against = f" | against {board.baseline}" if board.baseline is not None else ""
    return Table(board.protocol.key + against, tuple(rows), (*notes, *board.notes))


def matchup_table(board: PairBoard) -> Table:
    """Every two models: preference rate, at equal lengths, and with both orders averaged."""
    rows: list[Row] = []
    notes: list[str] = []
    for one in board.matchups:
        outcomes, controlled = one.preference.outcomes, one.preference.length_controlled
        rows.append(
            {
                "first against second": f"{one.first} against {one.second}",
                "wins – ties – losses": f"{outcomes.num_wins} – {outcomes.num_ties} – {outcomes.num_losses}",
                "wins less losses": share(outcomes.signed_rate, signed=True),
                "p": p_value(outcomes.p_value),
                "win rate": share(outcomes.win_rate),
                "LC-minimal win rate": share(controlled.win_rate if controlled is not None else None),
                "win rate, orders averaged": share(one.averaged.win_rate),
                "smallest detectable": f"{100 * one.smallest_detectable:.1f} %",
            }
        )
        if controlled is not None and controlled.warning is not None:
            notes.append(f"{one.first} against {one.second}: {controlled.warning}.")
    if len(rows) > 1:
        notes.append("p by the sign test over questions; not corrected for the number of comparisons.")
    return Table(f"each two models, judge {board.protocol.judge}", tuple(rows), tuple(notes))


def strength_table(board: PairBoard) -> Table:
    """Bradley-Terry strengths, best first."""
    if board.strengths is None:
        return Table("", ())
    ranked = sorted(board.strengths.by_model.items(), key=lambda entry: -entry[1].mean)
    rows: list[Row] = [
        {
            "model": model,
            "strength (log-odds)": "0, the anchor"
            if model == board.strengths.baseline
            else points(strength, signed=True),
            "on Elo's scale": "1000"
            if model == board.strengths.baseline
            else f"{board.elo[model].mean:.0f} [{board.elo[model].low:.0f}, {board.elo[model].high:.0f}]",
        }
        for model, strength in ranked
    ]
    notes = []
    if board.strengths.is_separated:
        notes.append(
            "Some models never lost to the others, or never won: those strengths are bounded by the prior alone."
        )
    return Table(f"Bradley-Terry, judge {board.protocol.judge}", tuple(rows), tuple(notes))


def fastchat_record_table(board: PairBoard) -> Table:
    """What FastChat's `show_result` prints, where it was asked for."""
    rows: list[Row] = [
        {
            "model": record.model,
            "win": told.num_wins,
            "loss": told.num_losses,
            "tie": told.num_ties,
            "win_rate": f"{told.win_rate:.6f}",
            "loss_rate": f"{told.loss_rate:.6f}",
            "win_rate_adjusted": f"{told.win_rate_adjusted:.6f}",
        }
        for record in board.records
        if (told := record.fastchat) is not None
    ]
    return Table(f"FastChat's own numbers, judge {board.protocol.judge}", tuple(rows))


def position_table(board: PairBoard) -> Table:
    """How the verdicts hang on slots and lengths."""
    rows: list[Row] = []
    if board.position is not None:
        slot = board.position
        of = f"{slot.num_first} of {slot.num_first + slot.num_second}"
        rows += [
            _fact("both orders agree", share(slot.consistency), f"{slot.num_pairs} pairs"),
            _fact("first slot won, all games", share(slot.first_slot_rate), "50 % is unbiased"),
            _fact(
                "first slot, where orders disagree",
                share(slot.first_slot_among_inconsistent),
                f"{of}, p = {p_value(slot.p_value)}",
            ),
        ]
    if board.lengths is not None:
        length = board.lengths
        ratio = MISSING if length.winner_length_ratio is None else f"{length.winner_length_ratio:.2f}"
        rows += [
            _fact("longer answer won", share(length.longer_wins), f"{length.num_decided} decided pairs"),
            _fact("winner's length over loser's", ratio, "geometric mean"),
            _fact("length difference and outcome", number(length.rank_correlation), "Spearman's correlation"),
        ]
    return Table(f"what the judge leans to, judge {board.protocol.judge}", tuple(rows))


def game_repeat_table(board: PairBoard) -> Table:
    """How often a judge that was asked again named the same winner."""
    if board.repeats is None:
        return Table("", ())
    again = board.repeats
    row: Row = {
        "repeats": again.num_repeats,
        "games with the same winner each time": f"{again.num_same} of {again.num_games}",
        "share": share(again.share),
    }
    return Table(f"the judge asked again, judge {board.protocol.judge}", (row,))


def _fact(what: str, figure: str, note: str) -> Row:
    return {"what": what, "figure": figure, "of": note}
