"""Transcripts become dialogues; wrong ones are counted and never quoted."""

import gzip
import json
import os
from pathlib import Path

import pytest

from distill.data import DataSettings, Message, load_splits
from distill.data.hh_rlhf import dialogue, hh_rlhf_groups
from distill.data.rows import Row
from distill.errors import DataError

GOOD = "\n\nHuman: Hi\nthere\n\nAssistant: Hello.\n\nHuman: And?\n\nAssistant: Bye."


def written(folder: Path, *rows: object) -> Path:
    path = folder / "test.jsonl.gz"
    with gzip.open(path, "wt", encoding="utf-8") as handle:
        handle.writelines(f"{json.dumps(row)}\n" for row in rows)
    return path


def test_a_transcript_is_its_turns():
    found = dialogue(Row("f:1", {"chosen": GOOD, "rejected": "x"}))
    turns = [("user", "Hi\nthere"), ("assistant", "Hello."), ("user", "And?"), ("assistant", "Bye.")]
    assert found.messages == tuple(Message(role, text) for role, text in turns)
    assert found.id == "f:1"


@pytest.mark.parametrize(
    "transcript",
    [
        3,
        "secret",
        "\n\nAssistant: secret",
        "\n\nHuman: secret",
        "\n\nHuman: secret\n\nHuman: b\n\nAssistant: c",
        "\n\nHuman: secret\n\nAssistant: ",
        "secret\n\nHuman: a\n\nAssistant: b",
    ],
)
def test_what_is_no_dialogue_is_refused_without_quoting_it(transcript: object):
    with pytest.raises(DataError) as refused:
        dialogue(Row("f:1", {"chosen": transcript}))
    assert "secret" not in str(refused.value)


def test_files_and_folders_are_read_and_wrong_rows_counted(tmp_path: Path):
    path = written(tmp_path, {"chosen": GOOD}, {"chosen": GOOD.replace("Bye", "Yes")}, [1])
    for place in (path, tmp_path):
        groups = hh_rlhf_groups(place, max_wrong_share=0.5)
        assert [len(group.conversations) for group in groups] == [2]
    with pytest.raises(DataError, match="1 of 3 rows are wrong"):
        hh_rlhf_groups(path, max_wrong_share=0.1)


def test_missing_and_damaged_files_are_refused(tmp_path: Path):
    with pytest.raises(DataError, match=r"no \*\.jsonl\.gz file is there"):
        hh_rlhf_groups(tmp_path, max_wrong_share=0)
    (tmp_path / "a.jsonl.gz").write_bytes(b"secret")
    with pytest.raises(DataError, match="cannot be read: BadGzipFile"):
        hh_rlhf_groups(tmp_path, max_wrong_share=0)


@pytest.mark.skipif("DISTILL_TEST_DATA" not in os.environ, reason="DISTILL_TEST_DATA names no folder of public data")
def test_the_published_file_splits_without_a_leak():
    path = Path(os.environ["DISTILL_TEST_DATA"]) / "hh-rlhf-harmless-test"
    splits = load_splits(DataSettings(source="hh-rlhf", path=path), seed=0)
    asked = {role: {row.user_turns for row in rows} for role, rows in splits.items()}
    assert sum(len(splits[role]) for role in ("teacher", "prompts", "valid", "test")) > 2200
    assert not asked["test"] & (asked["teacher"] | asked["prompts"])
