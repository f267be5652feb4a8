"""What judging costs: a price table that the user keeps, an estimate before, a limit during, the sum after."""

import math
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import Field

from distill.errors import RecipeError
from distill.settings import Settings, read_yaml, validated
from eval.mt_bench.call_store import Call
from eval.mt_bench.matches import Match

CHARACTERS_PER_TOKEN = 4
TYPICAL_COMPLETION_TOKENS = 200
TEMPLATE_TOKENS = 256
"""More than a chat template adds to a prompt, a system message of the server's own among it."""
MILLION = 1_000_000


class Price(Settings):
    """Of a million tokens, in the table's currency."""

    prompt: float = Field(ge=0, description="price of a million prompt tokens")
    completion: float = Field(ge=0, description="price of a million completion tokens")

    def of(self, num_prompt_tokens: int, num_completion_tokens: int) -> float:
        """The price of so many tokens."""
        return (self.prompt * num_prompt_tokens + self.completion * num_completion_tokens) / MILLION


class PriceTable(Settings):
    """Prices as they were on a day; nothing is known of models that are not in it."""

    date: str = Field(pattern=r"^\d{4}-\d{2}-\d{2}$", description="when the prices were looked up, as '2026-01-31'")
    currency: str = Field(min_length=1, description="such as USD")
    per_million_tokens: Mapping[str, Price] = Field(description="by the model's name at the server")

    def of(self, model: str) -> Price:
        """The price of a model.

        Raises:
            RecipeError: the table lacks it.
        """
        if model not in self.per_million_tokens:
            raise RecipeError(
                f"the price table of {self.date} lacks {model}",
                why=f"it has: {', '.join(self.per_million_tokens) or 'nothing'}",
                fix=f"add to per_million_tokens: {model}: {{prompt: 0.0, completion: 0.0}}, with the server's prices",
            )
        return self.per_million_tokens[model]


@dataclass(frozen=True)
class Budget:
    """A limit for one run: no call is begun while it and those under way might go over it, whatever comes back.

    A request that the server refuses, or that the client repeats (429, 5xx, a broken connection), is taken as unpaid;
    with `max_retries=0` none is repeated.

    Attributes:
        price: of the judge's tokens.
        max_cost: in the price's currency.
        max_completion_tokens: what all tries of one call can hold at most.
        num_tries: how often a call's prompt is sent at most.
    """

    price: Price
    max_cost: float
    max_completion_tokens: int
    num_tries: int = 1

    def most(self, match: Match) -> float:
        """What a call can cost at most."""
        return self.price.of(self.num_tries * most_prompt_tokens(match), self.max_completion_tokens)

    def spent_on(self, match: Match, call: Call, *, is_refused: bool) -> float:
        """What a finished call has cost: by the server's count; where it does not tell, or the call failed, the most.

        Args:
            match: what was asked.
            call: what came of it.
            is_refused: the server did nothing for it.
        """
        if is_refused:
            return 0.0
        if call.status == "failed" or call.num_prompt_tokens is None or call.num_completion_tokens is None:
            return self.most(match)
        return self.price.of(call.num_prompt_tokens, call.num_completion_tokens)

    def affordable(self, matches: Sequence[Match], *, spent: float) -> int:
        """How many of the first matches can be judged together without going over, whatever the replies' lengths."""
        count = 0
        for match in matches:
            spent += self.most(match)
            if spent > self.max_cost:
                break
            count += 1
        return count


@dataclass(frozen=True)
class OutOfBudget:
    """Why a run stopped: at most `spent` is spent, and the next call might cost `next_cost`."""

    max_cost: float
    spent: float
    next_cost: float


@dataclass(frozen=True)
class JudgingPlan:
    """What a run would do: calls by what is known of them, tokens and cost of those that would be made.

    `cost` expects replies of a typical length; no run costs more than `max_cost`. None: no price was given.
    """

    num_calls: int
    num_done: int
    num_failed_before: int
    num_to_ask: int
    num_prompt_tokens: int
    num_completion_tokens: int
    max_completion_tokens: int
    cost: float | None
    max_cost: float | None


def read_prices(path: Path) -> PriceTable:
    """Reads a price table: YAML with `date`, `currency` and `per_million_tokens: {MODEL: {prompt, completion}}`.

    Raises:
        RecipeError: the file is missing, or not such a table; names what is wrong.
    """
    values = read_yaml(path)
    return validated(PriceTable, {**values, "date": str(values.get("date", ""))}, source=str(path))


def num_prompt_tokens(match: Match) -> int:
    """About how many tokens a prompt has: a quarter of its characters."""
    return math.ceil(sum(len(message.content) for message in match.messages) / CHARACTERS_PER_TOKEN)


def most_prompt_tokens(match: Match) -> int:
    """At most how many tokens a prompt has as the server reads it.

    A token stands for one byte of UTF-8 at least, of the text as it is or as some tokenizers normalise it (NFKC).
    """
    texts = [message.content for message in match.messages]
    lengths = (max(len(form.encode()) for form in (text, unicodedata.normalize("NFKC", text))) for text in texts)
    return sum(lengths) + TEMPLATE_TOKENS


def cost_of(call: Call, price: Price) -> float:
    """What a call cost, about: by the server's count of tokens, else a quarter of the characters; failed: nothing."""
    if call.status == "failed":
        return 0.0
    prompt, completion = call.num_prompt_tokens, call.num_completion_tokens
    return price.of(
        math.ceil(len(call.user_prompt) / CHARACTERS_PER_TOKEN) if prompt is None else prompt,
        math.ceil(len(call.text) / CHARACTERS_PER_TOKEN) if completion is None else completion,
    )


def judging_plan(
    pending: Sequence[Match],
    *,
    num_calls: int,
    num_done: int,
    num_failed_before: int,
    max_completion_tokens: int,
    num_tries: int,
    price: Price | None,
) -> JudgingPlan:
    """The plan for the matches that would be judged; limits of a call as in `Budget`."""
    budget = None if price is None else Budget(price, math.inf, max_completion_tokens, num_tries)
    prompt = sum(num_prompt_tokens(match) for match in pending)
    typical = len(pending) * min(TYPICAL_COMPLETION_TOKENS, max_completion_tokens)
    most = len(pending) * max_completion_tokens
    return JudgingPlan(
        num_calls=num_calls,
        num_done=num_done,
        num_failed_before=num_failed_before,
        num_to_ask=len(pending),
        num_prompt_tokens=prompt,
        num_completion_tokens=typical,
        max_completion_tokens=most,
        cost=None if price is None else price.of(prompt, typical),
        max_cost=None if budget is None else sum(map(budget.most, pending)),
    )
