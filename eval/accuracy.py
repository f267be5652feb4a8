"""Accuracy of judged answers, overall and by group, with intervals that resample whole conversations."""

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from eval.checkers import Judged, JudgedConversation
from eval.scores import Interval, mean_interval


@dataclass(frozen=True)
class Accuracy:
    """What the checker says of a model's answers.

    `strict` is the accuracy that counts an answer only when the verdict gives no reason against it: the personality
    accuracy where a right answer may be in another personality's words, else the same as `overall`.
    """

    overall: Interval
    strict: Interval
    by_category: dict[str, Interval]
    by_turn: dict[str, Interval]
    reasons: dict[str, int]
    num_conversations: int
    num_turns: int
    num_unchecked: int
    share_unfinished: float
    mean_tokens: float


def accuracy(judged: Judged, *, seed: int) -> Accuracy | None:
    """Sums up verdicts; None where no conversation could be checked.

    Args:
        judged: verdicts by conversation, the unit that the bootstrap resamples.
        seed: of the bootstrap.
    """
    conversations = judged.conversations
    if not conversations:
        return None
    turns = [turn for conversation in conversations for turn in conversation.turns]
    return Accuracy(
        overall=_interval([_right(conversation) for conversation in conversations], seed=seed),
        strict=_interval([_without_reasons(conversation) for conversation in conversations], seed=seed),
        by_category=_grouped(conversations, lambda conversation, _: category_of(conversation), seed=seed),
        by_turn=_grouped(conversations, lambda _, turn: f"turn {turn + 1}", seed=seed),
        reasons=dict(Counter(reason for turn in turns for reason in turn.verdict.reasons).most_common()),
        num_conversations=len(conversations),
        num_turns=len(turns),
        num_unchecked=judged.num_unchecked,
        share_unfinished=sum(turn.answer.finish_reason == "length" for turn in turns) / len(turns),
        mean_tokens=sum(turn.answer.num_tokens for turn in turns) / len(turns),
    )


def category_of(judged: JudgedConversation) -> str | None:
    """The category that the facts name; None leaves the conversation out of every category."""
    category = judged.conversation.facts.get("category")
    return category if isinstance(category, str) else None


def _right(judged: JudgedConversation) -> list[float]:
    return [float(is_right) for is_right in judged.right]


def _without_reasons(judged: JudgedConversation) -> list[float]:
    return [float(turn.verdict.is_right and not turn.verdict.reasons) for turn in judged.turns]


def _grouped(
    conversations: Sequence[JudgedConversation],
    group_of: Callable[[JudgedConversation, int], str | None],
    *,
    seed: int,
) -> dict[str, Interval]:
    """Accuracy by group of turns; a conversation stays one cluster inside every group it has turns in."""
    groups: dict[str, list[list[float]]] = defaultdict(list)
    for conversation in conversations:
        own: dict[str, list[float]] = defaultdict(list)
        for turn, is_right in enumerate(conversation.right):
            group = group_of(conversation, turn)
            if group is not None:
                own[group].append(float(is_right))
        for group, values in own.items():
            groups[group].append(values)
    return {group: _interval(clusters, seed=seed) for group, clusters in sorted(groups.items())}


def _interval(clusters: Sequence[Sequence[float]], *, seed: int) -> Interval:
    return mean_interval(clusters, seed=seed)
