import dataclasses

import pytest

from eval.mt_bench.board import Benchmark, BenchmarkReport
from eval.mt_bench.board.browser import browsed_questions, loss_of


def test_every_verdict_has_its_status_and_its_words(report: BenchmarkReport):
    questions = {question.question_id: question for question in report.questions}
    assert len(questions) == 15

    def status(question: int, turn: int, model: str) -> list[str]:
        scores = questions[question].turns[turn - 1].scores
        return [score.status for score in scores if score.model == model and score.judge == "judge-one"]

    assert status(3, 2, "student") == ["unscored"]
    assert status(4, 1, "student") == ["ambiguous"]
    assert status(8, 2, "student-q4") == ["missing"]
    assert status(1, 1, "teacher") == ["ok"]
    assert questions[1].turns[0].reference == "Low at 1 o'clock. plain"
    assert questions[7].turns[1].answers[0].text == ""


def test_both_orders_stand_with_their_slots(report: BenchmarkReport):
    pair = next(
        pair for pair in report.questions[0].turns[0].pairs if (pair.first, pair.second) == ("student", "teacher")
    )
    assert [(game.slot_a, game.slot_b, game.winner) for game in pair.games] == [
        ("student", "teacher", "student"),
        ("teacher", "student", "teacher"),
    ]
    assert (pair.winner, pair.is_consistent) == ("tie", False)
    broken = next(
        pair for pair in report.questions[1].turns[0].pairs if pair.second == "teacher" and pair.first == "student"
    )
    assert (broken.winner, broken.games[1].status, broken.games[1].winner) == (None, "unscored", None)


def test_a_row_that_names_the_models_the_other_way_round_shows_the_same_slots(benchmark: Benchmark):
    """Game 1 of a row shows its model_1 first, whatever the order of the names."""
    row = next(r for r in benchmark.pair["judge-one"] if r.model_1 == "student" and r.question_id == 5 and r.turn == 1)
    turned = dataclasses.replace(
        row, model_1="teacher", model_2="student", g1_judgment="first [[A]]", g2_judgment="second [[B]]"
    )
    one = dataclasses.replace(benchmark, single={}, pair={"judge-one": (turned,)})
    pair = browsed_questions(one, models=["student", "teacher"])[4].turns[0].pairs[0]
    assert [(game.slot_a, game.reply, game.winner) for game in pair.games] == [
        ("student", "second [[B]]", "teacher"),
        ("teacher", "first [[A]]", "teacher"),
    ]


def test_losses_are_points_and_have_two_directions(report: BenchmarkReport):
    """Mean over turns and judges of the teacher's score less the student's."""
    question = report.questions[4]
    points = []
    for turn in question.turns:
        for judge in ("judge-one", "judge-two"):
            scores = {score.model: score.score for score in turn.scores if score.judge == judge}
            points.append((scores["teacher"] or 0) - (scores["student"] or 0))
    assert loss_of(question, "student", "teacher") == pytest.approx(sum(points) / 4)
    assert loss_of(question, "teacher", "student") == pytest.approx(-sum(points) / 4)
    assert loss_of(question, "student", "nobody") is None


def test_without_scores_losses_are_comparisons(benchmark: Benchmark):
    only_pairs = dataclasses.replace(benchmark, single={})
    question = browsed_questions(only_pairs, models=["teacher", "student"])[0]
    assert loss_of(question, "student", "teacher") == 0.0
    assert question.turns[0].scores == ()


def test_halves_of_letters_become_question_marks(benchmark: Benchmark):
    answers = {"teacher": {1: ("\ud83d torn", "fine")}}
    torn = browsed_questions(dataclasses.replace(benchmark, answers=answers), models=["teacher"])[0]
    assert torn.turns[0].answers[0].text == "? torn"
