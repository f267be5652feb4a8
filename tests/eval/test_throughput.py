import pytest

from distill.data import Message
from distill.decoding import SamplingSettings, TransformersGenerator
from distill.errors import DataError
from eval.throughput import throughput

PROMPTS = [[Message("user", "hello")], [Message("user", "a flat white please")]]


def test_throughput_counts_the_tokens_of_greedy_answers(make_model):
    generator = TransformersGenerator(make_model(0))
    settings = SamplingSettings(temperature=1.0, max_new_tokens=5)
    expected = generator.generate(PROMPTS, settings.model_copy(update={"temperature": 0.0}), seed=0)
    measured = throughput(generator, PROMPTS, settings, num_runs=3)
    assert measured.num_tokens == sum(generation.num_tokens for generation in expected)
    assert measured.num_prompts == 2
    assert sorted(measured.runs)[1] == measured.tokens_per_s > 0


def test_throughput_asks_greedily_once_to_warm_up_and_once_a_run(table_generator):
    generator = table_generator({})
    throughput(generator, PROMPTS, SamplingSettings(temperature=1.0), num_runs=2)
    assert generator.temperatures == [0.0] * 6


def test_throughput_refuses_no_prompts(table_generator):
    with pytest.raises(DataError, match="no prompt to measure the speed on"):
        throughput(table_generator({}), [], SamplingSettings())


def test_throughput_refuses_a_silent_model(table_generator):
    generator = table_generator({})
    generator.generate = lambda prompts, settings, *, seed: []
    with pytest.raises(DataError, match="the model generated no token"):
        throughput(generator, PROMPTS, SamplingSettings())
