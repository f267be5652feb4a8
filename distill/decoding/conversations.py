"""Answers whole conversations turn by turn, each turn with the model's own earlier answers before it."""

from collections.abc import Sequence

from distill.data.records import Conversation, Message
from distill.decoding.generate import Generation, Generator
from distill.decoding.sampling import SamplingSettings


def answer_conversations(
    generator: Generator, conversations: Sequence[Conversation], settings: SamplingSettings, *, seed: int
) -> list[tuple[Generation, ...]]:
    """One answer to each user turn of each conversation; answers that the conversations hold are not used.

    All first turns are answered together, then all second ones, and so on.

    Args:
        generator: what answers.
        conversations: their system messages and user turns are the questions.
        settings: how answers are drawn.
        seed: turn t is drawn with seed + t.

    Returns:
        For each conversation as many answers as it has user turns.
    """
    contexts = [[] if c.system is None else [c.system] for c in conversations]
    answers: list[list[Generation]] = [[] for _ in conversations]
    for turn in range(max((len(c.user_turns) for c in conversations), default=0)):
        asked = [index for index, c in enumerate(conversations) if len(c.user_turns) > turn]
        for index in asked:
            contexts[index].append(conversations[index].user_turns[turn])
        replies = generator.generate([contexts[index] for index in asked], settings, seed=seed + turn)
        for index, reply in zip(asked, replies, strict=True):
            answers[index].append(reply)
            contexts[index].append(Message("assistant", reply.text))
    return [tuple(replies) for replies in answers]
