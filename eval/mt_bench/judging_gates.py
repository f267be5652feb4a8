"""When a judging run does not count: the budget ended it, or too many calls of a model brought no verdict."""

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from distill.errors import GateError
from eval.mt_bench.call_store import Call
from eval.mt_bench.derived import verdict_of
from eval.mt_bench.judging_cost import OutOfBudget


def require_all_asked(num_missing: int, *, of: int, stopped: OutOfBudget | None) -> None:
    """Refuses a result that the budget cut short.

    Raises:
        GateError: the budget ended the run.
    """
    if stopped is not None:
        raise GateError(
            f"{num_missing} of {of} calls were not made: {stopped.spent:.4f} is spent, and the next might go over "
            f"max_cost {stopped.max_cost:g}",
            why=f"it may cost up to {stopped.next_cost:.4f}; what it does cost is known only afterwards",
            fix="run the same command again, with a greater max_cost or this one: the limit is each run's, and what is "
            "judged is kept",
        )


def require_verdicts(
    judge_name: str,
    calls: Iterable[tuple[tuple[str, ...], Call | None]],
    *,
    max_failure_rate: float,
    store: Path,
) -> None:
    """Refuses a result of which, for some model, too much is missing.

    Args:
        judge_name: for the message.
        calls: of all that was asked for: the models judged, and what came of it, None where nothing did.
        max_failure_rate: share of a model's calls that may be without a verdict.
        store: where the calls stand.

    Raises:
        GateError: a model has more; names each with counts, and the commonest reasons.
    """
    totals, without, words = Counter[str](), Counter[str](), Counter[str]()
    for models, call in calls:
        totals.update(models)
        problem = _problem(call)
        if problem is not None:
            without.update(models)
            words[problem] += 1
    wrong = [model for model in totals if without[model] > max_failure_rate * totals[model]]
    if wrong:
        told = "; ".join(f"{model}: {without[model]} of {totals[model]} calls" for model in wrong)
        most = "; ".join(f"{count} x {problem}" for problem, count in words.most_common(3))
        raise GateError(
            f"{judge_name} gave too few verdicts; without one are {told}",
            why=f"at most {100 * max_failure_rate:g} % may be without one. {most}",
            fix=f"look into {store}; judge again with --retry-failed, take another judge, or raise --max-failure-rate",
        )


def _problem(call: Call | None) -> str | None:
    """Why there is no verdict, or None where there is one."""
    if call is None:
        return "not answered"
    if call.status == "failed":
        return f"failed: {call.error}"
    verdict = verdict_of(call)
    return f"unscored: {verdict.rule}" if verdict.status == "unscored" else None
