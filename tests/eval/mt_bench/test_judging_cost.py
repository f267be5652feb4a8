import unicodedata

import pytest

from distill.errors import RecipeError
from eval.mt_bench.judging_cost import (
    TEMPLATE_TOKENS,
    Budget,
    Price,
    cost_of,
    judging_plan,
    most_prompt_tokens,
    num_prompt_tokens,
    read_prices,
)
from eval.mt_bench.matches import single_matches
from tests.eval.mt_bench.test_call_store import call
from tests.judge_cases import answer, judging, singles

TABLE = """
date: 2026-01-31
currency: USD
per_million_tokens:
  judge-1: {prompt: 2.5, completion: 10}
"""


def test_a_price_table_is_read_from_yaml(tmp_path):
    (tmp_path / "prices.yaml").write_text(TABLE)
    table = read_prices(tmp_path / "prices.yaml")
    assert (table.date, table.currency) == ("2026-01-31", "USD")
    assert table.of("judge-1") == Price(prompt=2.5, completion=10)
    with pytest.raises(RecipeError, match=r"(?s)price table of 2026-01-31 lacks judge-2.*it has: judge-1.*add to"):
        table.of("judge-2")


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("date: 2026-01-31\n", "", "date"),
        ("completion: 10", "completion: -1", "completion"),
        ("prompt", "input", r"judge-1.*input|input.*judge-1"),
    ],
)
def test_a_wrong_price_table_is_refused(tmp_path, old: str, new: str, problem: str):
    (tmp_path / "prices.yaml").write_text(TABLE.replace(old, new))
    with pytest.raises(RecipeError, match=problem):
        read_prices(tmp_path / "prices.yaml")


def test_a_call_costs_what_the_server_counted():
    """1,000 prompt tokens at 2.5 and 200 completion tokens at 10 a million: 0.0025 + 0.002."""
    counted = call("a", num_prompt_tokens=1000, num_completion_tokens=200)
    assert cost_of(counted, Price(prompt=2.5, completion=10)) == pytest.approx(0.0045)


def test_without_a_count_a_token_is_four_characters():
    """400 and 41 characters: 100 and, rounded up, 11 tokens."""
    guessed = call("a", user_prompt="p" * 400, text="t" * 41, num_prompt_tokens=None, num_completion_tokens=None)
    assert cost_of(guessed, Price(prompt=1, completion=1)) == pytest.approx(111 / 1e6)


def test_a_failed_call_costs_nothing():
    assert cost_of(call("a", "failed", num_prompt_tokens=1000), Price(prompt=1, completion=1)) == 0.0


def test_prompts_are_counted_with_the_system_message():
    """`Be fair.` and `Q ask 1.1 A m 1.1` are 8 + 17 characters: 7 tokens."""
    assert num_prompt_tokens(singles(1)[0]) == 7


def test_a_budget_covers_the_longest_replies():
    """25 characters are at most 25 tokens: two tries and 442 of replies are 1,000 tokens of 0.001: 1 a call."""
    matches = [match for match in singles(5) if match.turn == 1]
    price = Price(prompt=1_000, completion=1_000)
    budget = Budget(price, max_cost=3.0, max_completion_tokens=1_000 - 2 * (25 + TEMPLATE_TOKENS), num_tries=2)
    assert (budget.affordable(matches, spent=0.5), budget.affordable(matches, spent=2.5)) == (2, 0)
    assert budget.affordable(matches, spent=0.0) == 3


def test_a_plan_expects_typical_replies_and_bounds_them():
    plan = judging_plan(
        singles(1),
        num_calls=9,
        num_done=7,
        num_failed_before=0,
        max_completion_tokens=2048,
        num_tries=1,
        price=Price(prompt=0, completion=1_000_000),
    )
    assert (plan.num_to_ask, plan.cost, plan.max_cost) == (2, 400.0, 4096.0)


@pytest.mark.parametrize("text", ["plain", "\u00e9\u4e2d\U0001f600", "\ufdfa" * 9, "[[9]] {x}"])
def test_no_tokenizer_makes_more_tokens_of_a_prompt_than_its_bytes(text: str):
    """One of letters and one of bytes; U+FDFA, 3 bytes, is normalised to 18 characters."""
    answers = {"m": {1: answer(1, "m", text, text)}}
    match = single_matches(judging("single", num_questions=1, answers=answers)).judged[0]
    prompt = "".join(message.content for message in match.messages)
    for form in ("NFC", "NFKC"):
        words = unicodedata.normalize(form, prompt)
        assert max(len(words), len(words.encode())) + 4 * len(match.messages) <= most_prompt_tokens(match)


def test_what_is_not_known_is_taken_to_have_cost_the_most():
    match, budget = singles(1)[0], Budget(Price(prompt=1, completion=1), 1.0, 10, 2)
    told = call("a", num_prompt_tokens=1000, num_completion_tokens=200)
    assert budget.spent_on(match, told, is_refused=False) == pytest.approx(1200 / 1e6)
    for unknown in (call("a", num_completion_tokens=None), call("a", "failed")):
        assert budget.spent_on(match, unknown, is_refused=False) == budget.most(match) > 0
    assert budget.spent_on(match, call("a", "failed"), is_refused=True) == 0.0
