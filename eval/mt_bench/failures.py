"""The gate on verdicts that are not there: a mean over what is left of them is no result."""

from collections.abc import Iterable

from distill.errors import GateError, RecipeError
from eval.mt_bench.strict import StrictScore
from eval.mt_bench.strict_pair import StrictWinRate

MAX_FAILURE_RATE = 0.02


def require_few_failures(
    tables: Iterable[StrictScore | StrictWinRate], *, max_failure_rate: float = MAX_FAILURE_RATE
) -> None:
    """Refuses to go on when a model's share of verdicts without a value is above `max_failure_rate`.

    Raises:
        GateError: it is, for at least one model; names each with counts and bounds.
        RecipeError: `max_failure_rate` is no share.
    """
    if not 0.0 <= max_failure_rate <= 1.0:
        raise RecipeError(f"max_failure_rate is {max_failure_rate}", why="a share from 0 to 1 was expected", fix="0.02")
    failed = [table for table in tables if table.failure_rate > max_failure_rate]
    if failed:
        lines = [f"{table.model} judged by {table.judge or 'the judge'}: {table.failure_text}" for table in failed]
        raise GateError(
            "\n".join(lines),
            why=f"at most {100 * max_failure_rate:g} % may fail; a figure over the rest would hide what is missing",
            fix="judge the failed ones again with --retry-failed, take another judge, or raise --max-failure-rate",
        )
