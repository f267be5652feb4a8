import logging
import os
from pathlib import Path

import pytest

from distill.data.personality_chat import PERSONALITIES, personality_chat_strata
from distill.errors import DataError

BLOCK = (
    "> !# @qna.pair.source = x\n\n# ? {first}\n{others}\n**Filters:**\n- editorial = chitchat\n\n"
    "```markdown\n{answer}\n```\n\n"
)


def block(questions, answer):
    return BLOCK.format(first=questions[0], others="".join(f"- {q}\n" for q in questions[1:]), answer=answer)


def written(folder: Path, blocks=((("Are you fun?", "are you fun"), "Yes, {}."), (("Bye",), "Bye, {}."))) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for personality in PERSONALITIES:
        text = "> # QnA pairs\n\n" + "".join(block(q, answer.format(personality)) for q, answer in blocks)
        (folder / f"qna_chitchat_{personality}.qna").write_text(text, encoding="utf-8")
    return folder


def test_every_question_is_asked_of_every_personality(tmp_path):
    strata = personality_chat_strata(written(tmp_path))
    assert [[group.key for group in stratum] for stratum in strata] == [["are you fun"], ["bye"]]
    conversations = strata[0][0].conversations
    assert len({c.id for c in conversations}) == len(conversations) == 2 * len(PERSONALITIES)
    assert [m.content for m in conversations[1].messages] == [
        "You are an enthusiastic assistant.",
        "Are you fun?",
        "Yes, enthusiastic.",
    ]
    assert conversations[5].messages[0].content == "You are a caring assistant."


def test_facts_hold_the_answers_of_the_scenario(tmp_path):
    (conversation, *_) = personality_chat_strata(written(tmp_path))[1][0].conversations
    assert conversation.facts == {
        "checker": "known-answer",
        "scenario": 1,
        "personality": "caring",
        "answers": {personality: f"Bye, {personality}." for personality in PERSONALITIES},
    }


@pytest.mark.parametrize("inner", ["", "packages/qnamaker/docs/qnaFormat/english", "raw/english", "english"])
def test_files_are_found_where_the_repository_keeps_them(tmp_path, inner):
    written(tmp_path / inner)
    assert len(personality_chat_strata(tmp_path)) == 2


def test_blocks_with_the_same_five_answers_are_one_scenario(tmp_path):
    strata = personality_chat_strata(written(tmp_path, [(("a",), "Yes."), (("b",), "No."), (("c",), "Yes.")]))
    assert [[group.key for group in stratum] for stratum in strata] == [["a", "c"], ["b"]]


def test_questions_of_two_scenarios_or_answers_are_dropped_and_counted(tmp_path, caplog):
    blocks = [(("Shared!", "a", "Twice"), "Yes."), (("shared", "b", "Twice"), "No.")]
    written(tmp_path, blocks)
    witty = tmp_path / "qna_chitchat_witty.qna"
    witty.write_text(witty.read_text(encoding="utf-8") + block(["only witty"], "Ha."), encoding="utf-8")
    with caplog.at_level(logging.INFO):
        strata = personality_chat_strata(tmp_path)
    assert [[group.key for group in stratum] for stratum in strata] == [["a"], ["b"]]
    assert (
        caplog.records[0]
        .getMessage()
        .endswith("2 questions in 2 scenarios; dropped 1 with two answers, 1 without all answers, 2 of two scenarios")
    )


def test_a_folder_without_the_five_files_is_refused(tmp_path):
    (written(tmp_path) / "qna_chitchat_witty.qna").unlink()
    with pytest.raises(DataError, match=r"the five files qna_chitchat_\*\.qna are not all there\n.*\nfix: git clone"):
        personality_chat_strata(tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("# ? a\n# ? b\n", r"caring\.qna:2: a new question before the answer of the last block"),
        ("# ? a\n```markdown\n```\n", r"caring\.qna:3: the block has no answer"),
        ("```markdown\nYes.\n```\n", r"caring\.qna:3: the block has no question"),
        ("- a\n", r"caring\.qna:1 is '- a'\nwhy: a way to ask stands below"),
        ("# ? a\nwhat\n", r"caring\.qna:2 is 'what'\nwhy: the line is no part of the \.qna format"),
        ("# ? a\n", r"caring\.qna ends inside a block"),
    ],
)
def test_wrong_lines_are_named_by_file_and_line(tmp_path, text, message):
    (written(tmp_path) / "qna_chitchat_caring.qna").write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=message):
        personality_chat_strata(tmp_path)


def test_a_file_that_is_not_utf8_is_refused(tmp_path):
    (written(tmp_path) / "qna_chitchat_caring.qna").write_bytes(b"# ? \xff\n")
    with pytest.raises(DataError, match=r"caring\.qna is not UTF-8"):
        personality_chat_strata(tmp_path)


@pytest.mark.slow
@pytest.mark.skipif("DISTILL_TEST_DATA" not in os.environ, reason="DISTILL_TEST_DATA names no folder of public data")
def test_the_published_files_hold_ninety_scenarios():
    strata = personality_chat_strata(Path(os.environ["DISTILL_TEST_DATA"]) / "personality-chat")
    conversations = [c for stratum in strata for group in stratum for c in group.conversations]
    assert len(strata) == 90
    assert len(conversations) == 5 * 9787
    assert len({c.id for c in conversations}) == len(conversations)
