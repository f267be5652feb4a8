from collections.abc import Sequence

from distill.data import Conversation, Message
from distill.decoding import Generation, SamplingSettings, TransformersGenerator, answer_conversations

SETTINGS = SamplingSettings(temperature=0, max_new_tokens=6)


class Echo:
    """Answers with what it was asked: the texts of the whole prompt, joined, and the seed."""

    def __init__(self) -> None:
        self.sizes: list[int] = []

    def generate(
        self, prompts: Sequence[Sequence[Message]], settings: SamplingSettings, *, seed: int
    ) -> list[Generation]:
        self.sizes.append(len(prompts))
        return [Generation(f"({' '.join(m.content for m in prompt)} #{seed})", 1, "stop") for prompt in prompts]


def conversation(name: str, *turns: tuple[str, str]) -> Conversation:
    return Conversation(name, tuple(Message(role, content) for role, content in turns))  # type: ignore[arg-type]


def test_each_turn_sees_the_models_own_earlier_answers():
    rows = [conversation("a", ("system", "s"), ("user", "1"), ("assistant", "not mine"), ("user", "2"))]
    answers = answer_conversations(Echo(), rows, SETTINGS, seed=7)
    assert [answer.text for answer in answers[0]] == ["(s 1 #7)", "(s 1 (s 1 #7) 2 #8)"]


def test_turns_of_all_conversations_are_answered_together():
    rows = [
        conversation("a", ("user", "1"), ("user", "2"), ("user", "3")),
        conversation("b", ("user", "4")),
        conversation("c", ("user", "5"), ("user", "6")),
    ]
    echo = Echo()
    answers = answer_conversations(echo, rows, SETTINGS, seed=0)
    assert echo.sizes == [3, 2, 1]
    assert [len(row) for row in answers] == [3, 1, 2]


def test_no_conversation_no_question():
    assert answer_conversations(Echo(), [], SETTINGS, seed=0) == []


def test_a_models_second_answer_is_its_answer_to_the_whole_dialogue(loaded):
    generator = TransformersGenerator(loaded)
    row = conversation("a", ("system", "Be brief."), ("user", "hi"), ("user", "milk?"))
    first, second = answer_conversations(generator, [row], SETTINGS, seed=0)[0]
    dialogue = [row.messages[0], row.messages[1], Message("assistant", first.text), row.messages[2]]
    assert generator.generate([dialogue], SETTINGS, seed=1) == [second]
