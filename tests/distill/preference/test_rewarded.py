"""Best of n, and pairs that a reward refuses, with a reward that counts letters."""

from collections.abc import Sequence

import pytest
import torch

from distill.data import Message
from distill.decoding import Generation, SamplingSettings
from distill.preference.pairs import PairsSettings, build_pairs
from distill.preference.rewarded import BestOfN, RewardedSettings, reward_refusals

PROMPT = (Message("user", "q"),)


class LetterScorer:
    """The reward is the number of e's; it reads eight letters of an answer."""

    identity, calibration, max_length_tokens = "letters", None, 8

    def encode(self, conversation: Sequence[Message]) -> list[int]:
        return [0] * len(conversation[-1].content)

    def score(self, conversations: Sequence[Sequence[Message]]) -> torch.Tensor:
        assert all(len(self.encode(conversation)) <= 8 for conversation in conversations)
        return torch.tensor([float(conversation[-1].content.count("e")) for conversation in conversations])


class Deck:
    """Gives its answers in turn."""

    def __init__(self, *answers: Generation) -> None:
        self.answers = answers

    def generate(
        self, prompts: Sequence[Sequence[Message]], settings: SamplingSettings, *, seed: int
    ) -> list[Generation]:
        return [self.answers[index % len(self.answers)] for index in range(len(prompts))]


def said(text: str, finish_reason: str = "stop") -> Generation:
    return Generation(text, len(text), finish_reason)


@pytest.mark.parametrize(
    ("answers", "expected"),
    [
        ([said("a"), said("eel"), said("bee")], "eel"),
        ([said("e" * 9), said("e"), said("a")], "e"),
        ([said("eee", "length"), said("  "), said("a")], "a"),
        ([said("eee", "length"), said("")], "eee"),
    ],
    ids=["the first of equals", "one too long to read", "unfinished and empty ones lose", "nothing else is there"],
)
def test_the_best_answer_is_given(answers: list[Generation], expected: str):
    best = BestOfN(Deck(*answers), LetterScorer(), len(answers))
    found = best.generate([PROMPT, PROMPT], SamplingSettings(), seed=0)
    assert [answer.text for answer in found] == [expected, expected]


def test_pairs_are_refused_by_rank_margin_and_length():
    rows = [(PROMPT, "ee", "a"), (PROMPT, "e", "e"), (PROMPT, "e", "ee"), (PROMPT, "ee", "e"), (PROMPT, "e", "a" * 9)]
    assert reward_refusals(LetterScorer(), rows, margin=0.0) == [None, "reward", "reward", None, "reward_unread"]
    assert reward_refusals(LetterScorer(), rows, margin=1.0)[3] == "reward"
    assert reward_refusals(LetterScorer(), [], margin=0.0) == []


def test_pairs_take_the_best_answer_and_drop_conflicts(dialogue):
    """Teacher: a, eee; student: ee, then eeee, which the reward ranks higher."""
    report = build_pairs(
        [dialogue("one", "q"), dialogue("two", "q")],
        teacher=Deck(said("a"), said("eee")),
        student=Deck(said("ee"), said("eeee")),
        settings=PairsSettings(turn="last", reward=RewardedSettings(num_answers=2)),
        seed=0,
        scorer=LetterScorer(),
    )
    assert [(pair.chosen, pair.rejected) for pair in report.pairs] == [("eee", "ee")]
    assert report.dropped["reward"] == 1


def test_without_the_filter_conflicts_stay(dialogue):
    report = build_pairs(
        [dialogue("one", "q")],
        teacher=Deck(said("a")),
        student=Deck(said("ee")),
        settings=PairsSettings(turn="last", reward=RewardedSettings(drops_conflicts=False)),
        seed=0,
        scorer=LetterScorer(),
    )
    assert len(report.pairs) == 1
