from pathlib import Path

import pytest

from distill.errors import RecipeError
from eval.mt_bench.answer_bench import AnswerRequest, answer_bench
from eval.mt_bench.answering import NamedModel, OpenedModel
from eval.mt_bench.folder import open_bench

MODEL = NamedModel("m", "x")


def test_a_part_is_answered_at_its_temperatures_and_the_rest_later(tmp_path: Path, table_generator):
    """The shipped questions begin with ten of writing: temperature 0.7."""
    bench, generator = open_bench("two_turns", data=tmp_path), table_generator({})
    first = answer_bench(bench, MODEL, OpenedModel(generator, "f"), AnswerRequest(end=2))
    assert (first.num_answered, first.num_questions, first.num_turns, first.num_cut_off) == (2, 80, 4, 0)
    assert set(generator.temperatures) == {0.7}
    again = table_generator({})
    assert answer_bench(bench, MODEL, OpenedModel(again, "f"), AnswerRequest(end=3)).num_answered == 3
    assert len(again.asked) == 2
    anew = table_generator({})
    answer_bench(bench, MODEL, OpenedModel(anew, "f"), AnswerRequest(end=3, overwrite=True))
    assert len(anew.asked) == 6


def test_overwriting_a_part_keeps_the_answers_to_the_others(tmp_path: Path, table_generator):
    bench = open_bench("two_turns", data=tmp_path)
    answer_bench(bench, MODEL, OpenedModel(table_generator({}), "f"), AnswerRequest(end=3))
    anew = table_generator({})
    summary = answer_bench(bench, MODEL, OpenedModel(anew, "f"), AnswerRequest(begin=1, end=2, overwrite=True))
    assert (len(anew.asked), summary.num_answered) == (2, 3)


def test_another_template_means_other_answers(tmp_path: Path, table_generator):
    bench, request = open_bench("two_turns", data=tmp_path), AnswerRequest(end=1)
    answer_bench(bench, MODEL, OpenedModel(table_generator({}), "f", {"template_sha256": "a"}), request)
    again = table_generator({})
    answer_bench(bench, MODEL, OpenedModel(again, "f", {"template_sha256": "b"}), request)
    assert len(again.asked) == 2


def test_an_empty_part_is_refused(tmp_path: Path, table_generator):
    with pytest.raises(RecipeError, match="leaves none of 80 questions"):
        answer_bench(
            open_bench("two_turns", data=tmp_path),
            MODEL,
            OpenedModel(table_generator({}), "f"),
            AnswerRequest(begin=90),
        )
