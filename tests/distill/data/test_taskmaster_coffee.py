import json
import logging
import os
from pathlib import Path

import pytest

from distill.data.records import Conversation, Message
from distill.data.taskmaster_coffee import taskmaster_coffee_groups
from distill.errors import DataError


def dialogue(*utterances, name="dlg-1"):
    return {
        "conversation_id": name,
        "vertical": "Coffee",
        "utterances": [
            {"index": number, "speaker": speaker, "text": text, "annotations": [{"name": "api_call"}]}
            for number, (speaker, text) in enumerate(utterances)
        ],
    }


def written(path: Path, rows) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(rows), encoding="utf-8")
    return path


def read(path: Path, rows, **settings):
    groups = taskmaster_coffee_groups(written(path, rows), max_wrong_share=settings.get("max_wrong_share", 0.0))
    return [c for group in groups for c in group.conversations]


def test_a_dialogue_is_its_utterances(tmp_path):
    rows = [dialogue(("user", " A latte "), ("assistant", "Is it right?"), ("user", "Yes"), ("assistant", "Soon."))]
    assert read(tmp_path / "data_00.json", rows) == [
        Conversation(
            "dlg-1",
            (
                Message("user", "A latte"),
                Message("assistant", "Is it right?"),
                Message("user", "Yes"),
                Message("assistant", "Soon."),
            ),
        )
    ]


def test_turns_of_one_speaker_are_joined_and_loose_ends_dropped(tmp_path):
    """Welcome, a blank and an API turn go; 'Hi' and 'a tea' become one turn; nobody answers 'thanks'."""
    rows = [
        dialogue(
            ("agent", "Welcome"), ("user", "Hi"), ("user", "a tea"), ("api", "{}"), ("assistant", ""),
            ("assistant", "Sure."), ("user", "thanks"),
        )
    ]  # fmt: skip
    (conversation,) = read(tmp_path / "data_00.json", rows)
    assert conversation.messages == (Message("user", "Hi a tea"), Message("assistant", "Sure."))


def test_duplicates_are_dropped_and_counted(tmp_path, caplog):
    rows = [dialogue(("user", "A tea"), ("assistant", answer), name=name) for name, answer in ("1a", "2a", "3b")]
    with caplog.at_level(logging.INFO):
        groups = taskmaster_coffee_groups(written(tmp_path / "data_00.json", rows).parent, max_wrong_share=0)
    assert [[c.id for c in group.conversations] for group in groups] == [["1", "3"]]
    assert "2 dialogues, 1 duplicates dropped" in caplog.text


@pytest.mark.parametrize("inner", ["", "data", "raw/data", "TM-4-2024/data"])
def test_files_are_found_where_the_repository_keeps_them(tmp_path, inner):
    for number in range(2):
        rows = [dialogue(("user", f"tea {number}"), ("assistant", "Sure."), name=f"dlg-{number}")]
        written(tmp_path / inner / f"data_0{number}.json", rows)
    groups = taskmaster_coffee_groups(tmp_path, max_wrong_share=0)
    assert [group.conversations[0].id for group in groups] == ["dlg-0", "dlg-1"]


def test_a_file_of_messages_is_read_too(tmp_path):
    messages = [{"role": "user", "content": "A tea"}, {"role": "assistant", "content": "Sure."}]
    (tmp_path / "dialogs.jsonl").write_text(json.dumps({"id": "d", "messages": messages}) + "\n", encoding="utf-8")
    (group,) = taskmaster_coffee_groups(tmp_path, max_wrong_share=0)
    assert group.conversations == (Conversation("d", (Message("user", "A tea"), Message("assistant", "Sure."))),)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (dialogue(("user", "A tea")), "nobody|the dialogue has no answered customer's turn"),
        ({"conversation_id": "d", "utterances": "x"}, "a dialogue needs an id and utterances"),
        ({"utterances": []}, "a dialogue needs an id and utterances"),
        ({"conversation_id": "d", "utterances": ["x"]}, "an utterance needs speaker and text"),
        (
            {"conversation_id": "d", "utterances": [{"speaker": "user", "text": 5}]},
            "an utterance needs speaker and text",
        ),
    ],
)
def test_wrong_dialogues_are_named(tmp_path, row, message):
    with pytest.raises(DataError, match=rf"1 of 1 rows are wrong, the first is .*data_00\.json row 1: ({message})"):
        read(tmp_path / "data_00.json", [row])


def test_a_folder_without_files_is_refused(tmp_path):
    with pytest.raises(DataError, match="no Taskmaster-4 file is there"):
        taskmaster_coffee_groups(tmp_path, max_wrong_share=0)


@pytest.mark.slow
@pytest.mark.skipif("DISTILL_TEST_DATA" not in os.environ, reason="DISTILL_TEST_DATA names no folder of public data")
def test_the_published_dialogues_are_all_read():
    folder = Path(os.environ["DISTILL_TEST_DATA"]) / "taskmaster4-coffee"
    conversations = [c for g in taskmaster_coffee_groups(folder, max_wrong_share=0) for c in g.conversations]
    assert len(conversations) == 3685
    for conversation in conversations:
        roles = [m.role for m in conversation.messages]
        assert roles == ["user", "assistant"] * (len(roles) // 2)
