"""A generator that says what it is told to, and counts what it was asked."""

from collections.abc import Callable, Sequence

import pytest

from distill.data import Conversation, Message
from distill.decoding import Generation, SamplingSettings

Reply = Callable[[Sequence[Message]], str | Generation]


class Speaker:
    """Answers each prompt with `reply(prompt)`; remembers prompts, seeds and settings."""

    def __init__(self, reply: Reply) -> None:
        self.reply = reply
        self.prompts: list[tuple[Message, ...]] = []
        self.seeds: set[int] = set()
        self.settings: set[SamplingSettings] = set()

    def generate(
        self, prompts: Sequence[Sequence[Message]], settings: SamplingSettings, *, seed: int
    ) -> list[Generation]:
        """One answer to each prompt."""
        self.prompts += [tuple(prompt) for prompt in prompts]
        self.seeds.add(seed)
        self.settings.add(settings)
        answers = [self.reply(prompt) for prompt in prompts]
        return [Generation(text, 1, "stop") if isinstance(text, str) else text for text in answers]


@pytest.fixture(scope="session")
def speaker() -> Callable[[Reply], Speaker]:
    """Makes a `Speaker`."""
    return Speaker


@pytest.fixture(scope="session")
def dialogue() -> Callable[..., Conversation]:
    """Makes an unlabelled conversation: a system message and user turns."""

    def make(name: str, *questions: str) -> Conversation:
        turns = tuple(Message("user", question) for question in questions)
        return Conversation(name, (Message("system", "be kind"), *turns), {"key": name})

    return make
