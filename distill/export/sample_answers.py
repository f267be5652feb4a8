"""The greedy answers of the smoke test as the report shows them, beside the merged model's."""

from collections.abc import Sequence
from dataclasses import dataclass

from distill.data import Message
from distill.decoding import Generation


@dataclass(frozen=True)
class SampleAnswer:
    """What was asked last, and what both models answered."""

    question: str
    merged: str
    artefact: str


def sample_answers(
    prompts: Sequence[Sequence[Message]], merged: Sequence[Generation], artefact: Sequence[Generation]
) -> tuple[SampleAnswer, ...]:
    """One row a prompt, in the order of the prompts."""
    return tuple(
        SampleAnswer(prompt[-1].content, before.text, after.text)
        for prompt, before, after in zip(prompts, merged, artefact, strict=True)
    )


def mean_length(token_ids: Sequence[Sequence[int]]) -> float:
    """Mean number of tokens of the answers, of which there is at least one."""
    return sum(map(len, token_ids)) / len(token_ids)
