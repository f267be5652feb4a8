import pytest

from distill.errors import DataError
from eval.judges.fitted_reward import RewardFit
from eval.mt_bench.board import Benchmark
from eval.mt_bench.embedded_page import Checks, checks_of, embedded_figures, embedded_page, first_questions
from eval.mt_bench.judgments import PairJudgment, SingleJudgment
from eval.mt_bench.questions import embedded_questions

MODELS = ("teacher", "student")
QUESTIONS = tuple(embedded_questions()[:3])


@pytest.fixture(scope="module")
def judged() -> Benchmark:
    """The teacher says what is right and the student nothing; one judge gives 9 and 2 points, and each pair to it."""
    single, pair = [], []
    for question in QUESTIONS:
        number = question.question_id
        for turn in range(1, len(question.turns) + 1):
            for model, score in zip(MODELS, (9, 2), strict=True):
                text, prompt = f"Rating: [[{score}]]", f"{model} {number} {turn}"
                single.append(SingleJudgment(number, model, ("sage", "p"), prompt, text, score, turn, 0.0))
            shown = (f"s t {number} {turn}", f"t s {number} {turn}")
            pair.append(
                PairJudgment(
                    *(number, "student", "teacher", "model_2", "model_2", ("sage", "p")),
                    *(shown[0], "[[B]]", shown[1], "[[A]]", turn, 0.0),
                )
            )
    answers = {"teacher": {q.question_id: q.reference for q in QUESTIONS}}
    answers["student"] = {q.question_id: ("",) * len(q.turns) for q in QUESTIONS}
    return Benchmark("embedded", QUESTIONS, answers, {"sage": tuple(single)}, {"sage": tuple(pair)})


@pytest.fixture(scope="module")
def checks(judged: Benchmark) -> Checks:
    return checks_of(judged, models=MODELS, baseline="teacher")


def test_a_judge_that_is_always_right_agrees_with_the_checker(checks: Checks):
    score, winner = checks.scores["sage"], checks.winners["sage"]
    assert (score.num_answers, score.num_right, score.ranked, score.kappa) == (12, 6, 1.0, 1.0)
    assert (winner.num_pairs, winner.num_decided) == (6, 6)
    assert winner.right_wins is not None
    assert winner.right_wins.mean == 1.0


def test_only_the_first_questions_count(judged: Benchmark):
    """Judgments of an earlier run on more questions stay in their files and out of the figures."""
    few = first_questions(judged, 2)
    ids = {question.question_id for question in few.questions}
    assert len(ids) == 2
    assert {row.question_id for rows in (*few.single.values(), *few.pair.values()) for row in rows} == ids
    assert all(set(rows) == ids for rows in few.answers.values())
    found = checks_of(few, models=MODELS, baseline="teacher")
    assert (found.scores["sage"].num_answers, found.winners["sage"].num_pairs) == (8, 4)
    with pytest.raises(DataError, match="no comparison with the baseline nobody"):
        checks_of(judged, models=MODELS, baseline="nobody")


def test_the_page_and_the_figures_say_how_far_each_judge_agrees(judged: Benchmark, checks: Checks):
    page = embedded_page(judged, checks, num_resamples=100, baseline="teacher", model="student")
    notes = [board.notes[-1] for board in page.board.judged]
    assert notes[0].startswith("Held against the checker: of all pairs of a right and a wrong answer")
    assert "in 100 % (50 % is chance); kappa 1.00 over 12 answers, 6 right" in notes[0]
    assert "of 6 pairs of a right and a wrong answer the right one won 100 %" in notes[1]
    fit = RewardFit(body="b", num_dialogues=8, num_held_out=4, accuracy=0.5, num_pairs=10)
    figures = embedded_figures(judged, page.board, checks, fit=fit, judges=["sage"], seconds={"page": 1.26})
    assert (figures.num_questions, figures.num_verdicts) == (3, 12 + 2 * 6)
    teacher, student = figures.models
    assert (teacher.right.mean, student.right.mean) == (1.0, 0.0)
    assert (teacher.scores["sage"].mean, student.scores["sage"].mean) == (9.0, 2.0)
    assert (teacher.rates, student.rates["sage"].mean) == ({}, -1.0)
    assert figures.seconds == {"page": 1.3}
