"""Questions asked of a server one by one, several under way: a failure costs its own question and no other."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from distill.decoding import Generation, Generator, SamplingSettings, answer_conversations, fault_of
from distill.errors import EndpointError
from eval.mt_bench.questions import Question

Turns = tuple[Generation, ...]


@dataclass(frozen=True)
class AnsweredBlock:
    """What came of a block: answers and failures by question id; `fatal`: no question can be answered any more."""

    answers: dict[int, Turns]
    failures: dict[int, str]
    fatal: EndpointError | None = None


def answer_each(
    generator: Generator, questions: Sequence[Question], *, settings: SamplingSettings, seed: int, parallel: int
) -> AnsweredBlock:
    """Answers the questions, `parallel` at a time, all turns of one after each other.

    Args:
        generator: safe to use from several threads.
        questions: ids are unique.
        settings: sampling; a question's `required_temperature` takes the temperature's place.
        seed: turn t is drawn with seed + t.
        parallel: questions under way at once.
    """

    def ask(question: Question) -> Turns | EndpointError:
        required = question.required_temperature
        own = settings if required is None else settings.model_copy(update={"temperature": required})
        try:
            return answer_conversations(generator, [question.to_conversation()], own, seed=seed)[0]
        except EndpointError as error:
            return error

    with ThreadPoolExecutor(parallel, thread_name_prefix="answer") as pool:
        replies = list(pool.map(ask, questions))
    answers: dict[int, Turns] = {}
    failures: dict[int, str] = {}
    fatal: EndpointError | None = None
    for question, reply in zip(questions, replies, strict=True):
        if not isinstance(reply, EndpointError):
            answers[question.question_id] = reply
            continue
        failures[question.question_id] = f"{reply.what}: {reply.why}" if reply.why else reply.what
        if fault_of(reply) == "lasting":
            fatal = fatal or reply
    return AnsweredBlock(answers, failures, fatal)
