"""Single scores of one judge: each model's mean with its interval, and every two models on the same questions."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import combinations

from pydantic import Field

from distill.settings import Settings
from eval.bias import rank_correlation
from eval.detectable import detectable_paired
from eval.intervals import clustered_interval
from eval.mt_bench.board.settings import BoardSettings
from eval.mt_bench.judgments import SingleJudgment
from eval.mt_bench.questions import Question
from eval.mt_bench.repeats import Repeated
from eval.mt_bench.show import FastChatScore, fastchat_single
from eval.mt_bench.strict import KeyVerdict, StrictScore, key_verdicts, strict_single
from eval.mt_bench.verdicts import HIGHEST_SCORE, LOWEST_SCORE, read_score
from eval.paired import studentised_difference
from eval.reliability import JudgeVariance, judge_variance
from eval.scores import Interval, PairedDifference

SCALE = (LOWEST_SCORE, HIGHEST_SCORE)

FEWEST_QUESTIONS = 5
"""Questions from which a turn or a category has an interval: of fewer, resampling sees too little variation."""

TurnKey = tuple[int, int]
"""Question, turn (from 1)."""


class ModelScore(Settings):
    """One model under one judge; intervals are in points; the mean's needs scores on two questions, others on five."""

    model: str
    table: StrictScore = Field(description="counts by status and the bounds, overall, by turn and by category")
    mean: Interval | None = Field(description="over all scored verdicts, resampled by question")
    by_turn: dict[int, Interval]
    by_category: dict[str, Interval]
    length_correlation: float | None = Field(description="Spearman's, of the answers' characters and their scores")
    repeats: JudgeVariance | None = Field(description="where the judge was asked several times")
    num_repeats: int = Field(1, description="times that most verdicts were asked for")
    fastchat: FastChatScore | None = Field(None, description="what FastChat's show_result prints, where asked for")


class ScoreDifference(Settings):
    """First minus second over the turns on which both have a score, in points."""

    first: str
    second: str
    paired: PairedDifference
    smallest_detectable: float = Field(description="true difference found four times out of five")
    num_compared: int = Field(description="turns on which both have a score")
    num_left_out: int = Field(description="turns on which one of them has none")

    @property
    def includes_zero(self) -> bool:
        """Whether the interval allows that the two are equal."""
        return self.paired.difference.low <= 0.0 <= self.paired.difference.high


def model_scores(
    rows: Sequence[SingleJudgment],
    *,
    questions: Sequence[Question],
    characters: Mapping[tuple[str, int, int], int],
    settings: BoardSettings,
    repeats: Sequence[Repeated] = (),
) -> list[ModelScore]:
    """Each model's scores, best mean first.

    Args:
        rows: of one judge.
        questions: what was to be judged.
        characters: length of each answer by model, question and turn.
        settings: of the resampling, and whether FastChat's numbers stand beside.
        repeats: all scores of a judge that was asked again; without them rows that repeat a key are its repeats.

    Raises:
        DataError: what `strict_single` refuses.
    """
    categories = {question.question_id: question.category for question in questions}
    fastchat = {score.model: score for score in fastchat_single(rows, categories=categories)} if settings.compat else {}
    verdicts = _by_model(key_verdicts(rows))
    scores = []
    for table in strict_single(rows, questions=questions):
        own = verdicts[table.model]
        by_turn, by_category = defaultdict[int, list[KeyVerdict]](list), defaultdict[str, list[KeyVerdict]](list)
        for verdict in own:
            by_turn[verdict.turn].append(verdict)
            by_category[categories[verdict.question_id]].append(verdict)
        turns = {turn: _interval(group, settings, fewest=FEWEST_QUESTIONS) for turn, group in sorted(by_turn.items())}
        names = {
            name: _interval(group, settings, fewest=FEWEST_QUESTIONS) for name, group in sorted(by_category.items())
        }
        num_repeats, variance = _repeats(
            [row for row in rows if row.model == table.model], [one for one in repeats if one.models == (table.model,)]
        )
        scores.append(
            ModelScore(
                model=table.model,
                table=table,
                mean=_interval(own, settings),
                by_turn={turn: value for turn, value in turns.items() if value is not None},
                by_category={name: value for name, value in names.items() if value is not None},
                length_correlation=_length_correlation(own, characters),
                repeats=variance,
                num_repeats=num_repeats,
                fastchat=fastchat.get(table.model),
            )
        )
    return scores


def score_differences(
    rows: Sequence[SingleJudgment], *, models: Sequence[str], settings: BoardSettings
) -> tuple[list[ScoreDifference], list[str]]:
    """Every two models, paired by question and turn, and notes on those that cannot be compared.

    Args:
        rows: of one judge.
        models: in the order in which the first of each two stands.
        settings: of the resampling.

    Raises:
        DataError: what `key_verdicts` refuses.
    """
    scored = {model: turn_scores(verdicts) for model, verdicts in _by_model(key_verdicts(rows)).items()}
    differences, notes = [], []
    for first, second in combinations(models, 2):
        shared = sorted(scored[first].keys() & scored[second].keys())
        if len({question for question, _ in shared}) < 2:
            notes.append(f"{first} and {second} both have scores on fewer than two questions: no difference is given.")
            continue
        paired = studentised_difference(
            [scored[first][key] for key in shared],
            [scored[second][key] for key in shared],
            clusters=[question for question, _ in shared],
            scale=SCALE,
            seed=settings.seed,
            num_resamples=settings.num_resamples,
        )
        differences.append(
            ScoreDifference(
                first=first,
                second=second,
                paired=paired,
                smallest_detectable=detectable_paired(paired.difference),
                num_compared=len(shared),
                num_left_out=len(scored[first].keys() ^ scored[second].keys()),
            )
        )
    return differences, notes


def turn_scores(verdicts: Sequence[KeyVerdict]) -> dict[TurnKey, float]:
    """The scores of one model by question and turn; what has none is left out."""
    return {(v.question_id, v.turn): v.score for v in verdicts if v.score is not None}


def question_means(verdicts: Sequence[KeyVerdict]) -> dict[int, float]:
    """The mean score of each question of one model; questions without a score are left out."""
    return {question: sum(values) / len(values) for question, values in _by_question(verdicts).items()}


def _by_model(verdicts: Sequence[KeyVerdict]) -> dict[str, list[KeyVerdict]]:
    grouped: dict[str, list[KeyVerdict]] = defaultdict(list)
    for verdict in verdicts:
        grouped[verdict.model].append(verdict)
    return grouped


def _by_question(verdicts: Sequence[KeyVerdict]) -> dict[int, list[float]]:
    grouped: dict[int, list[float]] = {}
    for (question, _), score in turn_scores(verdicts).items():
        grouped.setdefault(question, []).append(score)
    return grouped


def _interval(verdicts: Sequence[KeyVerdict], settings: BoardSettings, *, fewest: int = 2) -> Interval | None:
    clusters = list(_by_question(verdicts).values())
    if len(clusters) < fewest:
        return None
    return clustered_interval(clusters, seed=settings.seed, scale=SCALE, num_resamples=settings.num_resamples)


def _length_correlation(verdicts: Sequence[KeyVerdict], characters: Mapping[tuple[str, int, int], int]) -> float | None:
    known = [(characters.get((v.model, v.question_id, v.turn)), v.score) for v in verdicts]
    pairs = [(length, score) for length, score in known if length is not None and score is not None]
    return rank_correlation([float(length) for length, _ in pairs], [score for _, score in pairs])


def _repeats(rows: Sequence[SingleJudgment], told: Sequence[Repeated]) -> tuple[int, JudgeVariance | None]:
    """How often most turns were judged, and the variance over those that were and have a score each time."""
    by_key: dict[TurnKey, list[float | None]] = defaultdict(list)
    for one in told:
        by_key[one.question_id, one.turn] = list(one.scores)
    for row in rows if not told else ():
        score = None if row.judgment is None else read_score(row.judgment).score
        by_key[row.question_id, row.turn].append(score)
    counts = [len(scores) for scores in by_key.values()]
    num_repeats = max(set(counts), key=lambda count: (counts.count(count), count))
    whole = [[s for s in scores if s is not None] for scores in by_key.values() if len(scores) == num_repeats]
    complete = [scores for scores in whole if len(scores) == num_repeats]
    if num_repeats < 2 or len(complete) < 2:
        return num_repeats, None
    return num_repeats, judge_variance(complete)
