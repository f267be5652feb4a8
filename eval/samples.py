"""Sample answers for the report: the same held-out questions to several models, side by side."""

from collections.abc import Mapping, Sequence

from distill.data.records import Conversation
from distill.errors import DataError
from eval.checkers import checker_for
from eval.report import Sample, SampleAnswer, SampleTurn


def side_by_side(
    conversations: Sequence[Conversation],
    answers: Mapping[str, Sequence[Sequence[str]]],
    *,
    num_samples: int,
    references: Sequence[Sequence[str]] | None = None,
) -> list[Sample]:
    """Samples spread evenly over `conversations`, chosen by place and never by what was answered.

    Args:
        conversations: what was asked.
        answers: model -> its answers, one for each user turn of each conversation, in the same order.
        num_samples: at most this many.
        references: reference answers by conversation and turn; None takes the conversations' own assistant turns.

    Raises:
        DataError: a model answered another number of conversations.
    """
    for model, own in answers.items():
        if len(own) != len(conversations):
            raise DataError(f"{model} answered {len(own)} conversations of {len(conversations)}")
    samples = []
    for place in spread(len(conversations), num_samples):
        conversation = conversations[place]
        known = references[place] if references is not None else own_answers(conversation)
        samples.append(_sample(conversation, {model: own[place] for model, own in answers.items()}, references=known))
    return samples


def spread(num_places: int, num_samples: int) -> list[int]:
    """Places at even distances, each at the middle of its stretch."""
    count = min(num_places, num_samples)
    return [(2 * number + 1) * num_places // (2 * count) for number in range(count)]


def own_answers(conversation: Conversation) -> list[str]:
    """The conversation's assistant turns."""
    return [message.content for message in conversation.messages if message.role == "assistant"]


def _sample(conversation: Conversation, answers: Mapping[str, Sequence[str]], *, references: Sequence[str]) -> Sample:
    turns = []
    for turn, asked in enumerate(conversation.user_turns):
        replies = tuple(_answer(conversation, turn, model=model, text=own[turn]) for model, own in answers.items())
        reference = references[turn] if turn < len(references) else None
        turns.append(SampleTurn(prompt=asked.content, reference=reference, answers=replies))
    system = conversation.system
    return Sample(name=conversation.id, system=None if system is None else system.content, turns=tuple(turns))


def _answer(conversation: Conversation, turn: int, *, model: str, text: str) -> SampleAnswer:
    checker = checker_for(conversation)
    if checker is None:
        return SampleAnswer(model=model, text=text)
    verdict = checker.check(conversation, turn, text)
    return SampleAnswer(model=model, text=text, is_right=verdict.is_right, reasons=tuple(verdict.reasons))
