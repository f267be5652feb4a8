import dataclasses

import pytest

from distill.errors import DataError
from eval.mt_bench.board import Benchmark, BoardSettings
from eval.mt_bench.board.pairs import judged_pairs_of, matchups, model_records, strengths_of, verdicts_of
from eval.mt_bench.judgments import PairJudgment


def pairs_of(rows: list[PairJudgment], benchmark: Benchmark):
    return judged_pairs_of(verdicts_of(rows, baseline=None, output_formats={}), characters=benchmark.characters())


def test_a_baseline_that_was_not_compared_is_refused(benchmark: Benchmark):
    with pytest.raises(DataError, match=r"(?s)baseline nobody.*compared were: student, student-q4, teacher"):
        verdicts_of(benchmark.pair["judge-one"], baseline="nobody", output_formats={})


def test_rates_and_records_count_the_same(benchmark: Benchmark, quick: BoardSettings):
    rows = list(benchmark.pair["judge-one"])
    pairs = pairs_of(rows, benchmark)
    settings = quick.model_copy(update={"compat": True})
    records = model_records(rows, pairs, questions=benchmark.questions, output_formats={}, settings=settings)
    for record in records:
        assert record.outcomes is not None
        assert record.outcomes.win_rate.mean == pytest.approx(record.table.win_rate_adjusted)
        assert record.fastchat is not None
    assert {record.model: record.table.num_errors for record in records} == {
        "student": 1,
        "teacher": 1,
        "student-q4": 0,
    }
    categories = {question.question_id: question.category for question in benchmark.questions}
    found, notes = matchups(pairs, models=["teacher", "student"], categories=categories, settings=quick)
    assert notes == []
    assert found[0].preference.num_unscored == 1
    assert found[0].preference.length_controlled is not None
    assert set(found[0].preference.by_source) == {"harbour", "kitchen", "sums"}
    assert found[0].averaged.win_rate.mean == pytest.approx(found[0].preference.outcomes.win_rate.mean)


def test_repeats_that_differ_are_a_tie_everywhere(benchmark: Benchmark, quick: BoardSettings):
    row = next(r for r in benchmark.pair["judge-one"] if r.model_2 == "teacher" and r.question_id == 5)
    rows = [
        dataclasses.replace(row, g1_judgment="[[A]]", g2_judgment="[[B]]"),
        dataclasses.replace(row, g1_judgment="[[B]]", g2_judgment="[[A]]"),
    ]
    assert [pair.outcome() for pair in pairs_of(rows, benchmark)] == [0.5]


def test_two_models_have_no_strengths_and_three_do(benchmark: Benchmark, quick: BoardSettings):
    pairs = pairs_of(list(benchmark.pair["judge-one"]), benchmark)
    strengths, notes = strengths_of(pairs, baseline="teacher", settings=quick)
    assert strengths is not None
    assert notes == []
    assert strengths.by_model["student"].mean < 0 < 1
    two = [pair for pair in pairs if {pair.model_1, pair.model_2} == {"student", "teacher"}]
    assert strengths_of(two, baseline="teacher", settings=quick) == (None, [])


def test_why_there_are_no_strengths_is_noted(benchmark: Benchmark, quick: BoardSettings):
    pairs = pairs_of(list(benchmark.pair["judge-one"]), benchmark)
    strengths, notes = strengths_of(pairs, baseline="nobody", settings=quick)
    assert strengths is None
    assert notes == ["No Bradley-Terry strengths: the baseline nobody stands in no game."]


def test_one_question_gives_no_rate(benchmark: Benchmark, quick: BoardSettings):
    pairs = pairs_of([row for row in benchmark.pair["judge-one"] if row.question_id == 5], benchmark)
    found, notes = matchups(pairs, models=["teacher", "student"], categories={}, settings=quick)
    assert found == []
    assert notes == ["teacher and student have verdicts on fewer than two questions: no rate is given."]
