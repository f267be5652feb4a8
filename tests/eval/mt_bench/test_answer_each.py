import json
from pathlib import Path

import pytest

from distill.decoding import SamplingSettings
from distill.errors import EndpointError
from eval.mt_bench.answer_each import answer_each
from eval.mt_bench.answers import answer_questions
from eval.mt_bench.questions import Question

QUESTIONS = [Question(n, "writing", (f"ask {n}", "more"), required_temperature=n / 10) for n in (1, 2, 3)]
SETTINGS = SamplingSettings(temperature=0.7)


class Failing:
    """Cannot answer one question."""

    def __init__(self, inner, failing: str | None) -> None:
        self.inner, self.failing = inner, failing

    def generate(self, prompts, settings, *, seed):
        if any(message.content == self.failing for prompt in prompts for message in prompt):
            raise EndpointError("no", why="too long")
        return self.inner.generate(prompts, settings, seed=seed)


def test_each_question_is_asked_at_its_temperature(table_generator):
    generator = table_generator({})
    block = answer_each(generator, QUESTIONS, settings=SETTINGS, seed=0, parallel=2)
    assert sorted(block.answers) == [1, 2, 3]
    assert sorted(set(generator.temperatures)) == [0.1, 0.2, 0.3]


def test_a_failure_costs_its_own_question_and_is_asked_again(tmp_path: Path, table_generator):
    arguments = {"model_name": "m", "model_fingerprint": "f", "settings": SETTINGS, "seed": 0, "output_dir": tmp_path}
    with pytest.raises(EndpointError, match=r"1 of 3 questions have no answer of m; question 2: no: too long"):
        answer_questions(Failing(table_generator({}), "ask 2"), QUESTIONS, parallel=2, **arguments)
    path = tmp_path / "model_answer" / "m.jsonl"
    assert [json.loads(line)["question_id"] for line in path.read_text().splitlines()] == [1, 3]
    assert json.loads(path.with_suffix(".meta.json").read_text())["failed"] == {"2": "no: too long"}
    again = table_generator({})
    assert len(answer_questions(again, QUESTIONS, parallel=2, **arguments)) == 3
    assert {prompt[0].content for prompt in again.asked} == {"ask 2"}
    assert json.loads(path.with_suffix(".meta.json").read_text())["failed"] == {}


def test_answers_to_questions_that_are_not_asked_stay(tmp_path: Path, table_generator):
    arguments = {"model_name": "m", "model_fingerprint": "f", "settings": SETTINGS, "seed": 0, "output_dir": tmp_path}
    answer_questions(table_generator({}), QUESTIONS, only={1}, **arguments)
    later = answer_questions(table_generator({}), QUESTIONS, only={3}, **arguments)
    assert [answer.question_id for answer in later] == [1, 3]
