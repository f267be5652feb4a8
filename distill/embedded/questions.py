"""The eighty two-turn questions of the held-out part, in the shape FastChat's MT-Bench files have."""

from collections import Counter
from functools import cache
from random import Random
from typing import Any, cast

from distill.embedded.dialogue import Plan, as_row, draw_plan, draw_user_texts
from distill.embedded.intents import CATEGORIES
from distill.embedded.world import PERSONALITIES, cafe

NUM_PER_CATEGORY = 10
_SEED = "questions"
_NUM_DRAWN = 2500


def questions() -> list[dict[str, Any]]:
    """Ten questions for each category, always the same.

    The second turn refers to the first or stays in its category. Intents that were used least come next, and
    among those the turns that refer to earlier ones; personalities take turns.

    Returns:
        Rows of `question_id` (from 1), `category`, `turns`, `reference` (the world's own answers),
        `system` and `facts`.
    """
    return [dict(question) for question in _questions()]


@cache
def _questions() -> tuple[dict[str, Any], ...]:
    rng = Random(_SEED)
    plans = [draw_plan(rng, "test", num_turns=2) for _ in range(_NUM_DRAWN)]
    rows = [row for category in CATEGORIES for row in _of_category(category, plans)]
    return tuple({"question_id": number, **row} for number, row in enumerate(rows, start=1))


def _of_category(category: str, plans: list[Plan]) -> list[dict[str, Any]]:
    rng = Random(f"{_SEED}/{category}")
    fitting = [plan for plan in plans if _fits(plan, category)]
    uses: Counter[str] = Counter()
    rows: list[dict[str, Any]] = []
    seen: set[tuple[str, ...]] = set()
    while len(rows) < NUM_PER_CATEGORY:
        plan = min(
            fitting, key=lambda plan: (sum(uses[turn.intent.id] for turn in plan.turns), not plan.turns[1].follows)
        )
        fitting.remove(plan)
        texts = draw_user_texts(rng, "test", plan)
        if texts is None or texts in seen:
            continue
        seen.add(texts)
        uses.update(turn.intent.id for turn in plan.turns)
        personality = PERSONALITIES[len(rows) % len(PERSONALITIES)]
        system = rng.choice(cafe()["personalities"][personality]["systems"])
        rows.append(_as_question(category, as_row("", system, personality, plan.turns, texts)))
    return rows


def _fits(plan: Plan, category: str) -> bool:
    first, second = plan.turns
    return first.intent.category == category and (second.follows or second.intent.category == category)


def _as_question(category: str, row: dict[str, object]) -> dict[str, Any]:
    messages = cast(list[dict[str, str]], row["messages"])
    return {
        "category": category,
        "turns": [message["content"] for message in messages if message["role"] == "user"],
        "reference": [message["content"] for message in messages if message["role"] == "assistant"],
        "system": messages[0]["content"],
        "facts": row["facts"],
    }
