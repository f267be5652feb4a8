"""Accuracy of judged answers, overall and by group, with intervals that resample whole conversations."""

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from eval.checkers import Judged, JudgedConversation
from eval.scores import Interval, mean_interval, proportion_interval


@dataclass(frozen=True)
class Accuracy:
    """What the checker says of a model's answers.

    `strict` is the accuracy that counts an answer only when the verdict gives no reason against it: the personality
    accuracy where a right answer may be in another personality's words, else the same as `overall`.
    """

    overall: Interval
    strict: Interval
    by_category: dict[str, Interval]
    by_intent: dict[str, Interval]
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
        by_category=_grouped(conversations, lambda one, turn: turn_fact(one, turn, name="category"), seed=seed),
        by_intent=_grouped(conversations, lambda one, turn: turn_fact(one, turn, name="intent"), seed=seed),
        by_turn=_grouped(conversations, lambda _, turn: f"turn {turn + 1}", seed=seed),
        reasons=dict(Counter(reason for turn in turns for reason in turn.verdict.reasons).most_common()),
        num_conversations=len(conversations),
        num_turns=len(turns),
        num_unchecked=judged.num_unchecked,
        share_unfinished=sum(turn.answer.finish_reason == "length" for turn in turns) / len(turns),
        mean_tokens=sum(turn.answer.num_tokens for turn in turns) / len(turns),
    )


def turn_fact(judged: JudgedConversation, turn: int, *, name: str) -> str | None:
    """What `facts["turns"][turn]` says under `name`; None leaves the turn out of every group."""
    turns = judged.conversation.facts.get("turns")
    if not isinstance(turns, Sequence) or not 0 <= turn < len(turns) or not isinstance(turns[turn], Mapping):
        return None
    value = turns[turn].get(name)
    return value if isinstance(value, str) else None


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
    """The clustered interval; where all turns are alike, which leaves it no width, Wilson's over the conversations."""
    means = {value for cluster in clusters for value in cluster}
    if len(means) > 1:
        return mean_interval(clusters, seed=seed)
    return proportion_interval(round(means.pop()) * len(clusters), len(clusters))
