"""Checkers: who decides, without a language model, whether an answer is right; and the answers so judged."""

import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from distill.data.records import Conversation
from distill.decoding import Generation
from distill.embedded import Verdict, check_answer
from distill.errors import DataError


class AnswerChecker(Protocol):
    """Decides whether the answer to one turn of a conversation is right."""

    def check(self, conversation: Conversation, turn: int, answer: str) -> Verdict:
        """The verdict on `answer`; turns count the assistant's, from 0."""
        ...


class EmbeddedChecker:
    """Checks answers in the embedded world, whose facts decide intent, slots, arithmetic and personality."""

    def check(self, conversation: Conversation, turn: int, answer: str) -> Verdict:
        """The world's own verdict."""
        return check_answer(conversation.facts, turn, answer)


class KnownAnswerChecker:
    """Checks answers whose right wording is known, one per personality, by normalised exact match.

    An answer is right when it is any personality's answer of the scenario (*scenario accuracy*). A right answer
    in another personality's words carries the reason `personality`, so that the share of verdicts without any
    reason is the *personality accuracy*.
    """

    def check(self, conversation: Conversation, turn: int, answer: str) -> Verdict:
        """Right when the scenario is; reasons `scenario` or `personality`."""
        answers = conversation.facts.get("answers")
        personality = conversation.facts.get("personality")
        if not isinstance(answers, Mapping) or not isinstance(personality, str) or personality not in answers:
            raise DataError(
                f"conversation {conversation.id}: facts.answers and facts.personality do not name a known answer",
                why="the known-answer checker compares with facts.answers[facts.personality]",
                fix="read the conversations again with the personality-chat reader",
            )
        given = normalised(answer)
        if not given or all(given != normalised(str(known)) for known in answers.values()):
            return Verdict(False, ("scenario",))
        return Verdict(True, () if given == normalised(str(answers[personality])) else ("personality",))


CHECKERS: dict[str, AnswerChecker] = {"embedded": EmbeddedChecker(), "known-answer": KnownAnswerChecker()}


def checker_for(conversation: Conversation) -> AnswerChecker | None:
    """The checker that the conversation's facts name, or None where they name none: its answers cannot be checked.

    Raises:
        DataError: the facts name a checker that does not exist.
    """
    name = conversation.facts.get("checker")
    if name is None:
        return None
    if not isinstance(name, str) or name not in CHECKERS:
        raise DataError(
            f"conversation {conversation.id}: facts.checker is {name!r}", why=f"known checkers: {', '.join(CHECKERS)}"
        )
    return CHECKERS[name]


def normalised(answer: str) -> str:
    """Words only, in lower case, one space between: case, punctuation, emoji and the shape of quotes do not count."""
    plain = unicodedata.normalize("NFKC", answer).casefold().replace("’", "'").replace("'", "")
    return " ".join(re.findall(r"\w+", plain))


@dataclass(frozen=True)
class JudgedTurn:
    """One answer with its verdict."""

    answer: Generation
    verdict: Verdict


@dataclass(frozen=True)
class JudgedConversation:
    """A conversation's answers with their verdicts; the unit that intervals resample."""

    conversation: Conversation
    turns: tuple[JudgedTurn, ...]

    @property
    def right(self) -> tuple[bool, ...]:
        """Which turns are right."""
        return tuple(turn.verdict.is_right for turn in self.turns)

    @property
    def num_right(self) -> int:
        """How many turns are right."""
        return sum(self.right)


@dataclass(frozen=True)
class Judged:
    """All judged conversations, and how many could not be checked because their facts name no checker."""

    conversations: tuple[JudgedConversation, ...]
    num_unchecked: int

    @property
    def right(self) -> list[tuple[bool, ...]]:
        """Right turns per conversation, as the paired comparisons take them."""
        return [judged.right for judged in self.conversations]


def judge(conversations: Sequence[Conversation], answers: Sequence[Sequence[Generation]]) -> Judged:
    """Checks every answer with the checker its conversation names.

    Args:
        conversations: one for each entry of `answers`, in the same order.
        answers: one generation for each user turn of the conversation.

    Raises:
        DataError: a conversation has another number of answers than user turns.
    """
    judged, num_unchecked = [], 0
    for conversation, generations in zip(conversations, answers, strict=True):
        if len(generations) != len(conversation.user_turns):
            raise DataError(
                f"conversation {conversation.id} has {len(conversation.user_turns)} user turns"
                f" and {len(generations)} answers",
                why="every user turn needs one answer",
            )
        checker = checker_for(conversation)
        if checker is None:
            num_unchecked += 1
            continue
        turns = (
            JudgedTurn(generation, checker.check(conversation, turn, generation.text))
            for turn, generation in enumerate(generations)
        )
        judged.append(JudgedConversation(conversation, tuple(turns)))
    return Judged(tuple(judged), num_unchecked)
