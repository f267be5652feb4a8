import dataclasses

import pytest

from eval.mt_bench.board import Benchmark, BoardSettings
from eval.mt_bench.board.scores import model_scores, question_means, score_differences
from eval.mt_bench.strict import key_verdicts


def test_differences_are_means_of_shared_turns(benchmark: Benchmark, quick: BoardSettings):
    """Of 30 turns, student lacks one score and student-q4 another: 28 are shared by the two."""
    rows = benchmark.single["judge-one"]
    found, notes = score_differences(rows, models=["teacher", "student", "student-q4"], settings=quick)
    assert [(one.num_compared, one.num_left_out) for one in found] == [(29, 1), (29, 1), (28, 2)]
    assert notes == []
    scored = {(v.model, v.question_id, v.turn): v.score for v in key_verdicts(rows) if v.score is not None}
    shared = [key for key in ((q, t) for q in range(1, 16) for t in (1, 2)) if ("student", *key) in scored]
    expected = sum(scored["teacher", *key] - scored["student", *key] for key in shared) / 29
    assert found[0].paired.difference.mean == pytest.approx(expected)
    assert found[0].paired.difference.low < expected < found[0].paired.difference.high
    assert found[0].smallest_detectable > 0


def test_models_without_common_questions_are_noted(benchmark: Benchmark, quick: BoardSettings):
    rows = [r for r in benchmark.single["judge-one"] if (r.model == "teacher") == (r.question_id < 8)]
    found, notes = score_differences(rows, models=["teacher", "student"], settings=quick)
    assert found == []
    assert notes == ["teacher and student both have scores on fewer than two questions: no difference is given."]


def test_a_score_counts_what_is_not_there(benchmark: Benchmark, quick: BoardSettings):
    """student-q4 has no row for the second turn of question 8."""
    scores = model_scores(
        benchmark.single["judge-one"],
        questions=benchmark.questions,
        characters=benchmark.characters(),
        settings=quick.model_copy(update={"compat": True}),
    )
    by_model = {score.model: score for score in scores}
    assert [score.model for score in scores] == ["teacher", "student", "student-q4"]
    assert by_model["student-q4"].table.overall.num_missing == 1
    assert by_model["student"].table.overall.num_unscored == 1
    assert by_model["student"].fastchat is not None
    assert by_model["student"].fastchat.num_failed == 1
    assert set(by_model["teacher"].by_category) == {"harbour", "kitchen", "sums"}
    for score in scores:
        assert score.mean is not None
        assert score.mean.mean == pytest.approx(score.table.overall.mean)
        assert score.repeats is None


def test_a_category_of_few_questions_has_no_interval(benchmark: Benchmark, quick: BoardSettings):
    few = [question for question in benchmark.questions if question.question_id <= 12]
    rows = [row for row in benchmark.single["judge-one"] if row.question_id <= 12]
    score = model_scores(rows, questions=few, characters={}, settings=quick)[0]
    assert score.by_category == {}
    assert set(score.by_turn) == {1, 2}
    assert score.table.by_category["sums"].mean is not None
    assert score.length_correlation is None


def test_a_judge_asked_twice_has_its_variance(benchmark: Benchmark, quick: BoardSettings):
    """The second run gives every answer one point less: all of that is a shift of the run, nothing is noise."""
    rows = [row for row in benchmark.single["judge-one"] if row.model == "teacher"]
    again = [dataclasses.replace(row, judgment=f"[[{int(row.score or 0) - 1}]]") for row in rows]
    score = model_scores([*rows, *again], questions=benchmark.questions, characters={}, settings=quick)[0]
    assert score.num_repeats == 2
    assert score.repeats is not None
    assert score.repeats.residual == pytest.approx(0.0, abs=1e-12)
    assert score.repeats.between_repeats == pytest.approx(0.5)


def test_question_means_known_answer(benchmark: Benchmark):
    verdicts = [v for v in key_verdicts(benchmark.single["judge-one"]) if v.model == "student" and v.question_id == 3]
    assert question_means(verdicts) == {3: verdicts[0].score}
