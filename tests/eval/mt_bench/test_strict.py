from dataclasses import replace
from pathlib import Path

import pytest

from distill.errors import DataError
from eval.mt_bench.judgments import SingleJudgment, read_single
from eval.mt_bench.questions import Question, read_questions
from eval.mt_bench.strict import key_verdicts, strict_single

QUESTIONS = [Question(1, "math", ("a", "b")), Question(2, "writing", ("a", "b"))]


def judged(
    text: str | None, *, question_id: int = 1, turn: int = 1, score: float = -1, prompt: str = "p", model: str = "m"
):
    return SingleJudgment(question_id, model, ("judge", "single-v1"), prompt, text, score, turn, None)


def test_unscored_and_missing_verdicts_are_counted_and_bound_the_mean():
    """Scores 6 and 8, one unscored, one missing: mean 7, from (14 + 2) / 4 = 4 to (14 + 20) / 4 = 8.5."""
    rows = [
        judged("[[6]]", score=6),
        judged("[[4]], no: [[8]]", turn=2, score=4),
        judged("arr[0]", question_id=2, score=0),
    ]
    (score,) = strict_single(rows, questions=QUESTIONS)
    tally = score.overall
    assert (tally.num_ok, tally.num_ambiguous, tally.num_unscored, tally.num_missing) == (1, 1, 1, 1)
    assert (tally.mean, tally.lower, tally.upper, tally.failure_rate) == (7.0, 4.0, 8.5, 0.5)
    assert (score.by_turn[2].mean, score.by_turn[2].num_missing) == (8.0, 1)
    assert (score.by_category["math"].failure_rate, score.by_category["writing"].failure_rate) == (0.0, 1.0)
    assert (score.by_category["writing"].mean, score.by_category["writing"].upper) == (None, 10.0)
    assert score.rules == {"last_double_bracket": 2, "no_verdict": 1}
    assert score.num_stored_as_failed == 0
    assert (
        score.failure_text == "2 of 4 verdicts have no score; 7.00 over the rest, between 4.00 and 8.50 if they had one"
    )


def test_the_stored_score_of_a_text_is_never_trusted():
    (score,) = strict_single([judged("Rating: [[80]]", score=80), judged(None, turn=2, score=9)])
    assert (score.overall.num_unscored, score.overall.mean, score.by_category) == (2, None, {})
    assert score.rules == {"no_text": 1, "out_of_range": 1}


def test_repeats_on_one_answer_are_averaged_into_their_key_and_told():
    """Question 1: (6 + 8) / 2 = 7, with a failed try; question 2: 3. Mean: (7 + 3) / 2 = 5, not 17 / 3."""
    rows = [judged("$ERROR$"), judged("[[6]]"), judged("[[8]]"), judged("[[3]]", question_id=2)]
    (score,) = strict_single(rows)
    assert (score.overall.mean, score.overall.num_ok, score.num_rows, score.num_repeats) == (5.0, 2, 4, 2)
    first = key_verdicts(rows)[0]
    assert (first.num_rows, first.num_unscored_rows, first.is_stored_as_failed, first.status) == (3, 1, True, "ok")


def test_one_model_judged_on_two_sets_of_answers_is_refused():
    rows = [
        judged("[[6]]"),
        judged("[[8]]", prompt="other"),
        judged("[[6]]", turn=2),
        judged("[[8]]", turn=2, prompt="x"),
    ]
    with pytest.raises(
        DataError, match="m: question 1, turn 1 is judged by judge on two different prompts, and so are 1 others"
    ):
        strict_single(rows)


def test_two_judges_in_one_file_are_two_lines():
    other = replace(judged("[[2]]", prompt="q"), judge=("another", "single-v1"))
    assert [(score.judge, score.overall.mean) for score in strict_single([judged("[[6]]"), other])] == [
        ("another", 2),
        ("judge", 6),
    ]


def test_the_best_model_stands_first():
    rows = [judged("[[6]]", model="a"), judged("[[9]]", model="b"), judged("none", model="c")]
    assert [score.model for score in strict_single(rows)] == ["b", "a", "c"]


def test_a_judged_question_that_is_not_among_the_questions_is_refused():
    with pytest.raises(DataError, match="question 3, judged for m, is not among the questions"):
        strict_single([judged("[[6]]", question_id=3)], questions=QUESTIONS)


def test_a_weak_judges_public_file_is_told_as_what_it_is(public_mt_bench: Path):
    """120 of 160 rows hold no score; three more hold 5, 0 and 0 read from `[5]` and from code."""
    questions = read_questions(public_mt_bench / "official" / "mt_bench" / "question.jsonl")
    rows = read_single(
        public_mt_bench / "judgments" / "instructlab" / "mt_bench" / "model_judgment" / "gpt-4_single.jsonl"
    )
    (score,) = strict_single(rows, questions=questions)
    assert (score.num_stored_as_failed, score.overall.num_unscored, score.overall.num_expected) == (120, 123, 160)
    assert (score.overall.num_ok, score.overall.num_ambiguous, score.overall.num_missing) == (34, 3, 0)
    assert score.overall.lower < 3 < 9 < score.overall.upper


def test_the_strong_judges_public_files_have_no_failure(public_mt_bench: Path):
    questions = read_questions(public_mt_bench / "official" / "mt_bench" / "question.jsonl")
    for name in ("medusa", "sarahlmk", "dreaming-panda"):
        path = public_mt_bench / "judgments" / name / "mt_bench" / "model_judgment" / "gpt-4_single.jsonl"
        for score in strict_single(read_single(path), questions=questions):
            assert (score.overall.num_ok, score.failure_rate, len(score.by_category)) == (160, 0.0, 8)


def test_a_public_file_judged_partly_twice_tells_its_repeats(public_mt_bench: Path):
    folder = public_mt_bench / "judgments" / "dreaming-panda" / "mt_bench" / "model_judgment"
    first, _ = strict_single(read_single(folder / "gpt-4_single-origin.jsonl"))
    assert (first.num_rows, first.num_repeats, first.overall.num_ok) == (170, 10, 160)
