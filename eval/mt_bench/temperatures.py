"""FastChat's sampling temperatures: what is forced, else what a question requires, else its category's."""

from collections.abc import Sequence
from dataclasses import replace

from distill.errors import RecipeError
from eval.mt_bench.questions import Question

CATEGORY_TEMPERATURES: dict[str, float] = {
    "writing": 0.7,
    "roleplay": 0.7,
    "extraction": 0.0,
    "math": 0.0,
    "coding": 0.0,
    "reasoning": 0.0,
    "stem": 0.1,
    "humanities": 0.1,
    "arena-hard-200": 0.0,
}
UNKNOWN_TEMPERATURE = 0.7
GREEDY_BELOW = 1e-4
MAX_NEW_TOKENS = 1024


def temperature_of(question: Question, *, forced: float | None = None) -> float:
    """The temperature a question is answered at; below 1e-4 it is 0, the likeliest token.

    Raises:
        RecipeError: `forced` is negative.

    Source:
        `gen_model_answer.py` and `temperature_config` of FastChat's llm_judge/common.py.
    """
    if forced is not None and not forced >= 0:
        raise RecipeError(f"--force-temperature is {forced}", why="a number of at least 0 was expected", fix="0.0")
    known = CATEGORY_TEMPERATURES.get(question.category, UNKNOWN_TEMPERATURE)
    required = known if question.required_temperature is None else question.required_temperature
    chosen = required if forced is None else forced
    return 0.0 if chosen < GREEDY_BELOW else chosen


def with_temperatures(questions: Sequence[Question], *, forced: float | None = None) -> list[Question]:
    """The questions, each with the temperature it is answered at as its required one."""
    return [replace(q, required_temperature=temperature_of(q, forced=forced)) for q in questions]
