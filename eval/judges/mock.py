"""Simulated judges with known faults, for tests and dry runs: their words are read as any judge's are."""

import hashlib
import random
from collections.abc import Iterator, Mapping, Sequence
from typing import Literal

from pydantic import Field

from distill.settings import Settings
from eval.checkers import checker_for, normalised
from eval.judges.base import JudgeReply, call_key
from eval.mt_bench.matches import Match
from eval.mt_bench.verdicts import HIGHEST_SCORE, LOWEST_SCORE

TIE_MARGIN = 0.5
CHARACTERS_PER_POINT = 200


class MockSettings(Settings):
    """What a simulated judge likes, and how badly it errs."""

    rule: Literal["length", "oracle"] = Field(
        "oracle",
        description="length: a point for every 200 characters; oracle: right by the question's facts or reference",
    )
    noise: float = Field(0.0, ge=0, description="standard deviation of what is added to an answer's merit, in points")
    first_slot: float = Field(0.5, ge=0, le=1, description="share of the blind verdicts that go to the first slot")
    blind: float = Field(0.0, ge=0, le=1, description="share of pairs in which the answers are not looked at")
    unparsed: float = Field(0.0, ge=0, le=1, description="share of replies without a verdict")
    seed: int = Field(0, description="of all chance; a call's draw depends on the seed and the call alone")


class MockJudge:
    """A judge that needs no model; see `eval.judges.base.Judge`."""

    def __init__(self, settings: MockSettings, *, name: str | None = None) -> None:
        self.settings, self.name = settings, name or f"mock-{settings.rule}"

    @property
    def identity(self) -> Mapping[str, object]:
        """The settings."""
        return {"kind": "mock", **self.settings.model_dump(mode="json")}

    def judge(self, matches: Sequence[Match]) -> Iterator[tuple[int, JudgeReply]]:
        """Replies at once, in the order of the matches."""
        for index, match in enumerate(matches):
            text = self._text(match)
            yield index, JudgeReply(text, finish_reason="stop", model=self.name)

    def _text(self, match: Match) -> str:
        key = f"{self.settings.seed} {call_key(self, match)}".encode()
        chance = random.Random(hashlib.sha256(key).digest())
        is_unparsed, is_blind, is_first = (
            chance.random() < share for share in (self.settings.unparsed, self.settings.blind, self.settings.first_slot)
        )
        if is_unparsed:
            return "A simulated judge that cannot decide."
        merits = [self._merit(match, slot) + self.settings.noise * chance.gauss() for slot in range(len(match.answers))]
        if match.mode == "single":
            score = min(max(round(merits[0]), LOWEST_SCORE), HIGHEST_SCORE)
            return f"A simulated rating by {self.settings.rule}.\n\nRating: [[{score:g}]]"
        if is_blind:
            label = "A" if is_first else "B"
        else:
            margin = merits[0] - merits[1]
            label = "C" if abs(margin) < TIE_MARGIN else "A" if margin > 0 else "B"
        return f"A simulated comparison by {self.settings.rule}.\n\n{_pair_verdict(label, match.prompt.output_format)}"

    def _merit(self, match: Match, slot: int) -> float:
        """The judged turn's points, from 1 to 10."""
        answer = match.texts[slot][match.turn - 1]
        if self.settings.rule == "length":
            return min(LOWEST_SCORE + len(answer) / CHARACTERS_PER_POINT, HIGHEST_SCORE)
        return HIGHEST_SCORE if _is_right(match, answer) else LOWEST_SCORE


def _is_right(match: Match, answer: str) -> bool:
    """By the checker that the facts name; else where the reference's words stand in the answer."""
    conversation = match.question.to_conversation()
    checker = checker_for(conversation)
    if checker is not None:
        return checker.check(conversation, match.turn - 1, answer).is_right
    known = match.reference or match.question.reference
    wanted = normalised(known[match.turn - 1]) if known else ""
    return bool(wanted) and wanted in normalised(answer)


def _pair_verdict(label: str, output_format: str) -> str:
    if output_format == "[[A>>B]]":
        return {"A": "[[A>B]]", "B": "[[B>A]]", "C": "[[A=B]]"}[label]
    if output_format == "[[rating_a,rating_b]]":
        return {"A": "[[8,4]]", "B": "[[4,8]]", "C": "[[6,6]]"}[label]
    return f"[[{label}]]"
