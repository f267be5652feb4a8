import pytest

from distill.errors import RecipeError
from eval.mt_bench.questions import Question
from eval.mt_bench.temperatures import temperature_of, with_temperatures


def question(category: str, required: float | None = None) -> Question:
    return Question(1, category, ("hello",), required_temperature=required)


@pytest.mark.parametrize(
    ("category", "expected"),
    [
        *(("writing", 0.7), ("roleplay", 0.7), ("extraction", 0.0), ("math", 0.0), ("coding", 0.0), ("reasoning", 0.0)),
        *(("stem", 0.1), ("humanities", 0.1), ("arena-hard-200", 0.0), ("poetry", 0.7)),
    ],
)
def test_a_category_has_fastchats_temperature(category: str, expected: float):
    assert temperature_of(question(category)) == expected


def test_forced_comes_before_required_and_required_before_the_category():
    assert temperature_of(question("math", 0.3)) == 0.3
    assert temperature_of(question("math", 0.3), forced=1.2) == 1.2
    assert temperature_of(question("writing", 0.3), forced=0.0) == 0.0
    assert temperature_of(question("writing", 0.00009)) == 0.0


def test_every_question_bears_its_temperature():
    assert [q.required_temperature for q in with_temperatures([question("stem"), question("math")])] == [0.1, 0.0]


def test_a_negative_temperature_is_refused():
    with pytest.raises(RecipeError, match="--force-temperature is -1"):
        temperature_of(question("math"), forced=-1.0)
