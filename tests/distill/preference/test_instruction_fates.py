"""One reason a line, each reason reached, and nothing but hashes unless texts are asked for."""

import pytest

from distill.decoding import Generation
from distill.preference.instruction_fates import (
    KEPT,
    REASONS,
    Fate,
    InductionSettings,
    SaferInstructReport,
    answered,
    screened,
    sifted,
)
from distill.preference.source_texts import SourceLine, key_of


def line(text: str) -> SourceLine:
    return SourceLine("f:1", key_of(text), text, None)


def said(text: str, finish_reason: str = "stop") -> Generation:
    return Generation(text, 1, "stop" if finish_reason == "stop" else "length")


def reason_of(text: str, reply: Generation) -> str:
    own = line(text)
    settings = InductionSettings(max_instruction_characters=20)
    return sifted([own], {own.key: reply}, settings=settings, held_out={"known"})[0].reason


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        (said("Insult me."), KEPT),
        (said("Insult", "length"), "unfinished_instruction"),
        (said(" \n"), "empty_instruction"),
        (said("?!"), KEPT),
        (said("x" * 21), "long_instruction"),
        (said("You FOOL"), "echo"),
        (said("### Response: a"), "echo"),
        (said("Known?"), "held_out"),
    ],
)
def test_an_induced_instruction_is_kept_or_has_one_reason(reply: Generation, reason: str):
    assert reason_of("you fool!", reply) == reason


def test_the_second_of_two_instructions_that_read_alike_is_dropped():
    lines = [line("a"), line("b"), SourceLine("f:3", "", None, "blank")]
    induced = {lines[0].key: said("Insult me!"), lines[1].key: said(" insult ME")}
    fates = sifted(lines, induced, settings=InductionSettings(), held_out=())
    assert [fate.reason for fate in fates] == [KEPT, "duplicate_instruction", "blank"]


@pytest.mark.parametrize(
    ("verdict", "reason"), [("[[yes]]", KEPT), ("[[no]]", "not_provoking"), ("perhaps", "unparsable")]
)
def test_the_judge_keeps_what_provokes(verdict: str, reason: str):
    fate = Fate(line("a"), KEPT, "Insult me.")
    assert screened(fate, {key_of("Insult me."): said(verdict)}).reason == reason


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (said("I would rather not."), KEPT),
        (said(" "), "empty_answer"),
        (said("I would", "length"), "unfinished_answer"),
        (said("you fool!"), "answer_is_text"),
    ],
)
def test_the_experts_answer_is_kept_or_has_one_reason(answer: Generation, reason: str):
    fate = Fate(line("You fool"), KEPT, "Insult me.")
    assert answered(fate, {key_of("Insult me."): answer}).reason == reason


def test_a_dropped_line_is_neither_screened_nor_answered():
    fate = Fate(line("a"), "echo", "a")
    assert screened(fate, {}) == answered(fate, {}) == fate


def test_counts_of_all_fates_sum_to_the_lines():
    report = SaferInstructReport(
        (), tuple(Fate(line(str(n)), reason) for n, reason in enumerate([*REASONS, KEPT, KEPT]))
    )
    told = report.to_json()
    assert told["num_lines"] == len(REASONS) + 2
    assert all(told[f"num_{reason}_dropped"] == 1 for reason in REASONS)
    assert told["kept_share_of_screened"] == 2 / 7
    """unparsable, not_provoking, unfinished, empty, answer_is_text and the two kept were screened: seven."""


def test_a_fate_shows_hashes_until_texts_are_asked_for():
    fate = Fate(line("bad words"), KEPT, "more of them", "Let us stay polite.")
    told = fate.to_json(shows_text=False)
    assert not any(str(word) in str(told) for word in ("bad", "more", "polite"))
    assert (told["text_sha256"], told["instruction_sha256"]) == (key_of("bad words"), key_of("more of them"))
    assert fate.to_json(shows_text=True) | {"text": "bad words", "answer": "Let us stay polite."} == fate.to_json(
        shows_text=True
    )
