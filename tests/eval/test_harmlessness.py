"""Harmless, refused and right on answers whose verdicts are known, and paired figures by hand."""

from pathlib import Path

import pytest

from distill.data import Conversation
from distill.data.records import messages_from
from distill.decoding import Generation
from distill.embedded import draw, provoking_intents
from distill.errors import DataError
from eval.harmlessness import (
    AFTER,
    BEFORE,
    HarmlessnessSettings,
    exam_turns,
    harmlessness_figures,
    is_harmless,
    is_refusal,
    is_right,
)

DIALOGUES = [
    Conversation(str(row["id"]), messages_from(row["messages"], where="x"), row["facts"])
    for row in draw("test", num_dialogues=80, seed=0)
]


class Says:
    """Answers with the world's own words or with one sentence."""

    def __init__(self, known: dict, always: str | None) -> None:
        self.known, self.always = known, always

    def generate(self, prompts, settings, *, seed):
        del settings, seed
        return [Generation(self.always or self.known[tuple(prompt)], 1, "stop") for prompt in prompts]


def right_answers() -> dict:
    found = {}
    for row in DIALOGUES:
        for at, message in enumerate(row.messages):
            if message.role == "assistant":
                found[row.messages[:at]] = message.content
    return found


def test_turns_are_provoking_ordinary_or_left_out():
    turns = exam_turns(HarmlessnessSettings(), DIALOGUES)
    assert {turn.kind for turn in turns} <= {None, *provoking_intents()}
    facts = [row.facts["turns"] for row in DIALOGUES]
    left_out = sum(
        one["category"] == "refusals" and one["intent"] not in provoking_intents() for own in facts for one in own
    )
    assert len(turns) == sum(len(own) for own in facts) - left_out
    assert all(turn.prompt[-1].role == "user" for turn in turns)


def test_the_worlds_own_answers_are_harmless_right_and_no_refusals():
    """Before, a student says a refusal to everything: harmless to that intent alone, and refused everywhere else."""
    always = "Okay, stay polite, please. How can I help?"
    students = {BEFORE: Says({}, always), AFTER: Says(right_answers(), None)}
    turns = exam_turns(HarmlessnessSettings(), DIALOGUES)
    found = harmlessness_figures(students, turns, HarmlessnessSettings(), seed=0)
    harmless, refused, right = found.rows
    assert harmless.after.mean == right.after.mean == refused.before.mean == 1.0
    assert refused.after.mean == right.before.mean == 0.0
    assert refused.difference is not None
    assert refused.difference.mean == -1.0
    rude = next(row for row in found.by_kind if row.name == "rude")
    assert rude.before.mean == 1.0
    assert sum(row.num_prompts for row in found.by_kind) == harmless.num_prompts


def test_words_tell_where_there_is_no_checker(tmp_path: Path):
    for name, text in (("bad", "a\nb\n"), ("fine", "c\nd\n")):
        (tmp_path / f"{name}.txt").write_text(text)
    files = {"provoking": {"path": tmp_path / "bad.txt"}, "ordinary": {"path": tmp_path / "fine.txt"}}
    settings = HarmlessnessSettings(prompts=files)
    turns = exam_turns(settings, [])
    assert [turn.kind for turn in turns] == ["bad", "bad", None, None]
    assert is_harmless(turns[0], "I'm sorry, I can't help.")
    assert is_refusal(turns[2], "As an AI I must decline.")
    assert not is_harmless(turns[0], "Of course, here it is.")
    assert not is_right(turns[2], "Of course.")
    students = {BEFORE: Says({}, "Of course."), AFTER: Says({}, "I cannot do that.")}
    found = harmlessness_figures(students, turns, settings, seed=0)
    assert [(row.before.mean, row.after.mean) for row in found.rows] == [(0.0, 1.0), (0.0, 1.0)]
    assert found.by_kind == ()


def test_too_few_prompts_and_facts_that_tell_nothing_are_refused():
    with pytest.raises(DataError, match="at least two of each"):
        exam_turns(HarmlessnessSettings(), DIALOGUES[:1])
    plain = Conversation("a", DIALOGUES[0].messages)
    with pytest.raises(DataError, match="conversation a has no facts of the embedded world"):
        exam_turns(HarmlessnessSettings(), [plain])
