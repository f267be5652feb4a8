"""What judges' replies are worth when none is dropped: every text is read again by the strict contract.

A verdict has one key: judge, model, question, turn. Repeated rows of one key must have judged the same answer, and
then are repeats of one judge. What has no verdict is counted, the mean is bounded by what it could have been, and a
gate refuses to go on when there is too much of it.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from distill.errors import DataError
from eval.mt_bench.judgments import FAILED_SCORE, SingleJudgment
from eval.mt_bench.questions import Question
from eval.mt_bench.verdicts import HIGHEST_SCORE, LOWEST_SCORE, Verdict, read_score

Key = tuple[str, str, int, int]


@dataclass(frozen=True)
class KeyVerdict:
    """One key's verdict: the mean score of its repeats that have one.

    `num_rows` repeats, of which `num_unscored_rows` gave nothing; `is_stored_as_failed`: the file, too, holds no score
    in any of them.
    """

    judge: str
    model: str
    question_id: int
    turn: int
    status: Literal["ok", "ambiguous", "unscored"]
    rule: str
    score: float | None
    num_rows: int
    num_unscored_rows: int
    is_stored_as_failed: bool


@dataclass(frozen=True)
class Tally:
    """Verdicts counted by status; `num_missing` were asked for and never given.

    `mean` goes over the scored ones, None where there is none; `lower` and `upper` are what it were if every other
    one were 1 or 10.
    """

    num_ok: int
    num_ambiguous: int
    num_unscored: int
    num_missing: int
    mean: float | None
    lower: float
    upper: float

    @property
    def num_scored(self) -> int:
        """Verdicts that count in the mean."""
        return self.num_ok + self.num_ambiguous

    @property
    def num_expected(self) -> int:
        """Verdicts there should be."""
        return self.num_scored + self.num_unscored + self.num_missing

    @property
    def failure_rate(self) -> float:
        """Unscored and missing over expected, in [0, 1]."""
        return (self.num_unscored + self.num_missing) / self.num_expected


@dataclass(frozen=True)
class StrictScore:
    """A model under one judge, nothing dropped.

    `num_repeats` rows repeat a key; `num_stored_as_failed` keys hold no score in the file, whatever their text says;
    `rules` counts how each verdict was found, or why none was.
    """

    judge: str
    model: str
    overall: Tally
    by_turn: Mapping[int, Tally]
    by_category: Mapping[str, Tally]
    num_rows: int
    num_repeats: int
    num_stored_as_failed: int
    rules: Mapping[str, int]

    @property
    def failure_rate(self) -> float:
        """Verdicts unscored or missing over those expected, in [0, 1]."""
        return self.overall.failure_rate

    @property
    def failure_text(self) -> str:
        """The failures in words."""
        tally = self.overall
        mean = "no mean" if tally.mean is None else f"{tally.mean:.2f} over the rest"
        failed = f"{tally.num_unscored + tally.num_missing} of {tally.num_expected} verdicts have no score"
        return f"{failed}; {mean}, between {tally.lower:.2f} and {tally.upper:.2f} if they had one"


def key_verdicts(rows: Iterable[SingleJudgment]) -> list[KeyVerdict]:
    """Every key's verdict, read from the judges' texts, in order of judge, model, question and turn.

    Raises:
        DataError: one key holds judgments of two different answers; names the model and how many keys do.
    """
    by_key: dict[Key, list[SingleJudgment]] = defaultdict(list)
    for row in rows:
        by_key[row.judge_name, row.model, row.question_id, row.turn].append(row)
    require_one_answer(
        (judge, model, f"question {question_id}, turn {turn}", [row.user_prompt for row in repeats])
        for (judge, model, question_id, turn), repeats in by_key.items()
    )
    return [_key_verdict(key, by_key[key]) for key in sorted(by_key)]


def strict_single(rows: Iterable[SingleJudgment], *, questions: Sequence[Question] = ()) -> list[StrictScore]:
    """The scores of each model under each judge, best mean first within a judge.

    Args:
        rows: of a `<judge>_single.jsonl`.
        questions: what was to be judged, every turn of each: gives the categories and what is missing. Without them
            nothing can be missing and there are no categories.

    Raises:
        DataError: one key holds judgments of two different answers, or a question is not among `questions`.
    """
    rows = list(rows)
    categories = {question.question_id: question.category for question in questions}
    grouped: dict[tuple[str, str], list[KeyVerdict]] = defaultdict(list)
    for verdict in key_verdicts(rows):
        if questions and verdict.question_id not in categories:
            raise DataError(
                f"question {verdict.question_id}, judged for {verdict.model}, is not among the questions",
                why="its category and its turns are not known",
                fix="show the judgments with the question file they were made from",
            )
        grouped[verdict.judge, verdict.model].append(verdict)
    expected = [(question.question_id, turn + 1) for question in questions for turn in range(len(question.turns))]
    scores = [_strict_score(*name, verdicts, expected, categories) for name, verdicts in grouped.items()]
    return sorted(scores, key=lambda score: (score.judge, -(score.overall.mean or 0.0), score.model))


def require_one_answer(keys: Iterable[tuple[str, str, str, Sequence[str | None]]]) -> None:
    """Refuses keys whose repeats were judged on different prompts, which means different answers.

    Args:
        keys: judge, model, a name of the rest of the key, and the prompts of its repeats.

    Raises:
        DataError: there is one; names the first and says how many there are.
    """
    wrong = {(judge, model, rest) for judge, model, rest, prompts in keys if len(set(prompts)) > 1}
    if not wrong:
        return
    judge, model, rest = min(wrong)
    others = len(wrong) - 1
    raise DataError(
        f"{model}: {rest} is judged by {judge or 'the judge'} on two different prompts"
        + (f", and so are {others} others" if others else ""),
        why="answers or references differ, and a mean would mix them under one name",
        fix="keep the rows of one set of answers, or give each set its own model id",
    )


def _key_verdict(key: Key, rows: Sequence[SingleJudgment]) -> KeyVerdict:
    verdicts = [_verdict_of(row.judgment) for row in rows]
    scored = [verdict for verdict in verdicts if verdict.score is not None]
    best = next((verdict for verdict in scored if verdict.status == "ok"), (scored or verdicts)[-1])
    return KeyVerdict(
        *key,
        status="ambiguous" if any(verdict.status == "ambiguous" for verdict in scored) else best.status,
        rule=best.rule,
        score=math.fsum(verdict.score or 0.0 for verdict in scored) / len(scored) if scored else None,
        num_rows=len(rows),
        num_unscored_rows=len(rows) - len(scored),
        is_stored_as_failed=all(row.score is None or row.score == FAILED_SCORE for row in rows),
    )


def _verdict_of(judgment: str | None) -> Verdict:
    return Verdict("unscored", "no_text", None) if judgment is None else read_score(judgment)


def _strict_score(
    judge: str,
    model: str,
    verdicts: Sequence[KeyVerdict],
    expected: Sequence[tuple[int, int]],
    categories: Mapping[int, str],
) -> StrictScore:
    given = {(verdict.question_id, verdict.turn) for verdict in verdicts}
    missing = [key for key in expected if key not in given]
    turns = sorted({verdict.turn for verdict in verdicts} | {turn for _, turn in missing})
    names = sorted(set(categories.values()))
    num_rows = sum(verdict.num_rows for verdict in verdicts)
    return StrictScore(
        judge=judge,
        model=model,
        overall=_tally(verdicts, len(missing)),
        by_turn={
            turn: _tally([v for v in verdicts if v.turn == turn], sum(of == turn for _, of in missing))
            for turn in turns
        },
        by_category={
            name: _tally(
                [v for v in verdicts if categories[v.question_id] == name],
                sum(categories[question_id] == name for question_id, _ in missing),
            )
            for name in names
        },
        num_rows=num_rows,
        num_repeats=num_rows - len(verdicts),
        num_stored_as_failed=sum(verdict.is_stored_as_failed for verdict in verdicts),
        rules=dict(sorted(Counter(verdict.rule for verdict in verdicts).items())),
    )


def _tally(verdicts: Sequence[KeyVerdict], num_missing: int) -> Tally:
    statuses = Counter(verdict.status for verdict in verdicts)
    scores = [verdict.score for verdict in verdicts if verdict.score is not None]
    total, num_open = math.fsum(scores), statuses["unscored"] + num_missing
    num_expected = len(scores) + num_open
    return Tally(
        num_ok=statuses["ok"],
        num_ambiguous=statuses["ambiguous"],
        num_unscored=statuses["unscored"],
        num_missing=num_missing,
        mean=total / len(scores) if scores else None,
        lower=(total + LOWEST_SCORE * num_open) / num_expected,
        upper=(total + HIGHEST_SCORE * num_open) / num_expected,
    )
