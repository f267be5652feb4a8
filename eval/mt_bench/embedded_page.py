"""The embedded world's judgments as a page and as figures: every judge is held against the checker."""

import datetime
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from eval.judges.fitted_reward import RewardFit
from eval.mt_bench.board import Benchmark, BenchmarkReport, BoardSettings, Scoreboard, benchmark_report
from eval.mt_bench.board.pairs import verdicts_of
from eval.mt_bench.checker_agreement import Rightness, ScoreCheck, WinnerCheck, rightness, score_check, winner_check
from eval.mt_bench.embedded_figures import CaughtCanaries, EmbeddedBench, JudgedModel
from eval.mt_bench.strict import key_verdicts
from eval.results import MISSING
from eval.scores import mean_interval

CHECKER = "checker"
SEED = 0


@dataclass(frozen=True)
class Checks:
    """Which answers are right, by model in the order in which they are shown, and each judge against that."""

    models: tuple[str, ...]
    right: Rightness
    scores: Mapping[str, ScoreCheck]
    winners: Mapping[str, WinnerCheck]


def first_questions(read: Benchmark, num_questions: int) -> Benchmark:
    """The benchmark of the first questions; judgments of an earlier call on more stay in their files."""
    questions = read.questions[:num_questions]
    ids = {question.question_id for question in questions}
    return replace(
        read,
        questions=questions,
        answers={m: {q: texts for q, texts in rows.items() if q in ids} for m, rows in read.answers.items()},
        single={name: tuple(row for row in rows if row.question_id in ids) for name, rows in read.single.items()},
        pair={name: tuple(row for row in rows if row.question_id in ids) for name, rows in read.pair.items()},
    )


def checks_of(read: Benchmark, *, models: tuple[str, ...], baseline: str) -> Checks:
    """Holds every judge against the checker.

    Raises:
        DataError: a question names no checker, or a judge gave no verdict.
    """
    right = rightness(read.questions, {model: read.answers[model] for model in models})
    winners = {
        judge: verdicts_of(rows, baseline=baseline, output_formats=read.output_formats)
        for judge, rows in read.pair.items()
    }
    return Checks(
        models,
        right,
        {judge: score_check(judge, key_verdicts(rows), right) for judge, rows in read.single.items()},
        {judge: winner_check(judge, given, right, seed=SEED) for judge, given in winners.items()},
    )


def embedded_page(read: Benchmark, checks: Checks, *, num_resamples: int, baseline: str, model: str) -> BenchmarkReport:
    """The page, with a note under each judge on how far it agrees with the checker.

    Args:
        read: the judged benchmark.
        checks: of it.
        num_resamples: bootstrap means of each interval.
        baseline: the teacher.
        model: whose losses come first.
    """
    families = dict.fromkeys((*checks.models, *checks.scores), "embedded") | {CHECKER: "rules"}
    page = benchmark_report(
        read,
        settings=BoardSettings(
            seed=SEED, num_resamples=num_resamples, baseline=baseline, teacher=baseline, families=families
        ),
        title="Judged answers in the embedded world",
        created=datetime.datetime.now(datetime.UTC).date().isoformat(),
        model=model,
    )
    single = tuple(
        one.model_copy(update={"notes": (*one.notes, _score_note(checks.scores[one.protocol.judge]))})
        for one in page.board.single
    )
    pair = tuple(
        one.model_copy(update={"notes": (*one.notes, _winner_note(checks.winners[one.protocol.judge]))})
        for one in page.board.pair
    )
    return page.model_copy(update={"board": page.board.model_copy(update={"single": single, "pair": pair})})


def embedded_figures(
    read: Benchmark,
    board: Scoreboard,
    checks: Checks,
    *,
    fit: RewardFit,
    judges: Sequence[str],
    seconds: Mapping[str, float],
) -> EmbeddedBench:
    """The figures that documents show, of the judges named; the checker is what they are held against."""
    return EmbeddedBench(
        num_questions=len(read.questions),
        num_verdicts=sum(map(len, read.single.values())) + 2 * sum(map(len, read.pair.values())),
        judges=tuple(judges),
        models=tuple(_judged_model(name, board, checks) for name in checks.models),
        score_checks=tuple(checks.scores[judge] for judge in judges),
        winner_checks=tuple(checks.winners[judge] for judge in judges),
        canaries=tuple(
            CaughtCanaries(
                judge=one.protocol.judge,
                kind=canary.figure.kind,
                caught=canary.figure.caught,
                is_caught=canary.figure.is_caught,
            )
            for one in board.single
            for canary in one.canaries
            if one.protocol.judge in judges
        ),
        reward_accuracy=fit.accuracy,
        num_reward_pairs=fit.num_pairs,
        seconds={name: round(value, 1) for name, value in seconds.items()},
    )


def _judged_model(name: str, board: Scoreboard, checks: Checks) -> JudgedModel:
    by_question: dict[int, list[float]] = {}
    for (model, question, _), is_right in checks.right.items():
        if model == name:
            by_question.setdefault(question, []).append(float(is_right))
    return JudgedModel(
        model=name,
        right=mean_interval(list(by_question.values()), seed=SEED),
        scores={
            one.protocol.judge: score.mean
            for one in board.single
            for score in one.scores
            if score.model == name and score.mean is not None
        },
        rates={
            one.protocol.judge: match.preference.outcomes.signed_rate
            for one in board.pair
            for match in one.matchups
            if (match.first, match.second) == (name, one.baseline)
        },
    )


def _score_note(check: ScoreCheck) -> str:
    ranked = MISSING if check.ranked is None else f"{100 * check.ranked:.0f} %"
    return (
        f"Held against the checker: of all pairs of a right and a wrong answer the right one has the higher score in "
        f"{ranked} (50 % is chance); kappa {check.kappa:.2f} over {check.num_answers} answers, {check.num_right} right."
    )


def _winner_note(check: WinnerCheck) -> str:
    share = MISSING if check.right_wins is None else f"{100 * check.right_wins.mean:.0f} %"
    return (
        f"Held against the checker: of {check.num_decided} pairs of a right and a wrong answer the right one won "
        f"{share} (50 % is chance); kappa {check.kappa:.2f} over {check.num_pairs} pairs."
    )
