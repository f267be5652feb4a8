from distill.data import Message
from distill.decoding import Generation
from distill.export.sample_answers import SampleAnswer, mean_length, sample_answers


def test_the_last_question_stands_beside_both_answers():
    prompts = [(Message("user", "a"), Message("assistant", "b"), Message("user", "c"))]
    rows = sample_answers(prompts, [Generation("x", 1, "stop")], [Generation("y", 1, "length")])
    assert rows == (SampleAnswer("c", "x", "y"),)


def test_the_mean_counts_empty_answers():
    assert mean_length([[1, 2, 3], []]) == 1.5
