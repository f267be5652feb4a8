"""One model against another by a judge's scores, paired by question and turn; and the gate that a release goes by."""

from collections.abc import Sequence

from distill.errors import DataError, GateError, RecipeError
from eval.mt_bench.board.scores import ScoreDifference, score_differences
from eval.mt_bench.board.settings import BoardSettings
from eval.mt_bench.judgments import SingleJudgment


def compare_models(
    rows: Sequence[SingleJudgment], first: str, second: str, *, settings: BoardSettings
) -> ScoreDifference:
    """First minus second, in points.

    Args:
        rows: of one judge.
        first: a model.
        second: the one it is held against.
        settings: of the resampling.

    Raises:
        DataError: one of them was not judged, or both have scores on fewer than two questions.
    """
    known = {row.model for row in rows}
    for model in (first, second):
        if model not in known:
            raise DataError(f"{model} was not judged", why=f"there are: {', '.join(sorted(known))}", fix="name one")
    if first == second:
        raise DataError(f"{first} is compared with itself", why="there is no difference", fix="name two models")
    pair = [row for row in rows if row.model in (first, second)]
    differences, notes = score_differences(pair, models=(first, second), settings=settings)
    if not differences:
        raise DataError(notes[0], fix="judge both on the same questions")
    return differences[0]


def require_not_worse(difference: ScoreDifference, *, by: float) -> None:
    """Refuses a first model whose mean is lower by more than `by` points.

    The gate reads the mean; the interval in the message says how far chance alone may have moved it.

    Raises:
        GateError: it is.
        RecipeError: `by` is negative.
    """
    if not by >= 0:
        raise RecipeError(f"--fail-if-worse is {by}", why="points of at least 0 were expected", fix="0.2")
    found = difference.paired.difference
    if found.mean < -by:
        raise GateError(
            f"{difference.first} scores {-found.mean:.2f} points below {difference.second}, and {by:g} are allowed",
            why=f"its 95 % interval goes from {found.low:.2f} to {found.high:.2f}, p {difference.paired.p_value:.3g};"
            f" {difference.smallest_detectable:.2f} points are found four times out of five",
            fix="look at the questions it lost (distill eval show --report), or judge more questions",
        )
