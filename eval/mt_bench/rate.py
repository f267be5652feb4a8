"""daDPO's preference rate from a benchmark's folder: the student against its teacher, on prompts it never saw."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from distill.data import Conversation, read_conversations
from distill.errors import DataError
from eval.judged_pairs import Combination
from eval.leakage import LeakageReport, find_leakage
from eval.mt_bench.board.benchmark import Benchmark
from eval.mt_bench.board.pairs import judged_pairs_of
from eval.mt_bench.judgments import PairJudgment
from eval.mt_bench.questions import Question
from eval.mt_bench.strict_pair import pair_verdicts
from eval.preference_rate import JudgedPreference, judged_preference_rate
from eval.scores import Interval


@dataclass(frozen=True)
class RateRequest:
    """Whose rate, and how it is taken: `seed` of the bootstrap, `combination` of the two orders."""

    student: str
    teacher: str
    seed: int = 0
    combination: Combination = "conservative"


def rate_from(benchmark: Benchmark, judge: str, request: RateRequest) -> JudgedPreference:
    """The rate by one judge's pair judgments, each text read by the strict contract; broken down by category.

    Raises:
        DataError: the judge compared no pairs, or not these two.
    """
    rows: Sequence[PairJudgment] = benchmark.pair.get(judge, ())
    between = [row for row in rows if {row.model_1, row.model_2} == {request.student, request.teacher}]
    if not between:
        met = sorted({" and ".join(sorted((row.model_1, row.model_2))) for row in rows})
        raise DataError(
            f"{judge} did not compare {request.student} with {request.teacher}",
            why=f"it compared: {'; '.join(met) or 'nothing'}",
            fix=f"distill eval judge --mode pairwise-baseline --baseline-model {request.teacher}"
            f" --model-list {request.student}",
        )
    verdicts = pair_verdicts(between, output_formats=benchmark.output_formats)
    return judged_preference_rate(
        judged_pairs_of(verdicts, characters=benchmark.characters()),
        student=request.student,
        teacher=request.teacher,
        seed=request.seed,
        combination=request.combination,
        sources={question.question_id: question.category for question in benchmark.questions},
    )


def leakage_of(questions: Iterable[Question], training: Iterable[Conversation]) -> LeakageReport:
    """Whether the questions stand in the training data; each by its id."""
    return find_leakage([question.to_conversation() for question in questions], training)


def training_conversations(paths: Iterable[Path]) -> Iterator[Conversation]:
    """What was trained on, from files of conversations.

    Raises:
        DataError: a file is missing or wrong; names file and line.
    """
    for path in paths:
        yield from read_conversations(path)


def rate_rows(found: JudgedPreference, *, judge: str, leakage: LeakageReport | None) -> list[dict[str, object]]:
    """The figures as a table: what, value, 95 % interval."""
    total, controlled = found.outcomes, found.length_controlled
    rows = [
        _row("judge", judge),
        _row("wins, ties, losses", f"{total.num_wins}, {total.num_ties}, {total.num_losses}"),
        _row("preference rate: wins less losses", total.signed_rate.mean, total.signed_rate),
        _row("win rate, a tie is half", total.win_rate.mean, total.win_rate),
        _row("p, sign test over questions", total.p_value),
        _row("turns without a verdict in both orders", found.num_unscored),
        _row("the rate if all of those were losses, or wins", f"{found.lowest:.4g} to {found.highest:.4g}"),
        _row("where the orders disagree", "a tie" if found.combination == "conservative" else "the mean of both"),
    ]
    if controlled is not None:
        rows.append(_row("win rate at equal lengths (LC-minimal)", controlled.win_rate.mean, controlled.win_rate))
    for source, rate in found.by_source.items():
        rows.append(_row(f"preference rate in {source}", rate.signed_rate.mean, rate.signed_rate))
    checked = "not checked: name the training files with --train"
    if leakage is not None:
        checked = f"none of {leakage.num_prompts} questions found in {leakage.num_training} training conversations"
    return [*rows, _row("questions trained on", checked)]


def _row(what: str, value: object, interval: Interval | None = None) -> dict[str, object]:
    return {
        "what": what,
        "value": value,
        "low": None if interval is None else interval.low,
        "high": None if interval is None else interval.high,
    }
