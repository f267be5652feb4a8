import json
import logging
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distill.data import Conversation, Message
from distill.errors import DataError
from distill.preference.blocks import (
    begin_blocks,
    derived_seed,
    fingerprint_of_conversations,
    in_blocks,
    made_blocks,
)


def talk(name: str, text: str = "hi") -> Conversation:
    return Conversation(name, (Message("user", text),))


@given(items=st.lists(st.integers(), max_size=20), size=st.integers(1, 7))
def test_blocks_end_to_end_are_the_items(items, size):
    parts = in_blocks(items, size=size)
    assert [item for part in parts for item in part] == items
    assert all(len(part) == size for part in parts[:-1])


def test_a_block_that_stands_is_read_and_not_made_again(tmp_path: Path):
    made = []

    def make(part):
        made.append(list(part))
        return [{"value": item} for item in part]

    blocks = begin_blocks(tmp_path, {"seed": 1})
    first = made_blocks(blocks, [[1, 2], [3]], make)
    assert next(first) == [{"value": 1}, {"value": 2}]
    blocks = begin_blocks(tmp_path, {"seed": 1})
    assert list(made_blocks(blocks, [[1, 2], [3]], make)) == [[{"value": 1}, {"value": 2}], [{"value": 3}]]
    assert made == [[1, 2], [3]]


def test_blocks_of_another_plan_are_deleted_and_it_is_said_why(tmp_path: Path, caplog):
    blocks = begin_blocks(tmp_path, {"seed": 1, "models": "a"})
    list(made_blocks(blocks, [[1]], lambda part: [{"value": 1}]))
    with caplog.at_level(logging.INFO):
        blocks = begin_blocks(tmp_path, {"seed": 2, "models": "a"})
    assert [path.name for path in blocks.iterdir()] == ["plan.json"]
    assert "deleting blocks of another run (other seed)" in caplog.text


def test_blocks_without_a_readable_plan_are_not_believed(tmp_path: Path):
    blocks = begin_blocks(tmp_path, {"seed": 1})
    list(made_blocks(blocks, [[1]], lambda part: [{"value": 1}]))
    (blocks / "plan.json").write_text("{")
    assert [path.name for path in begin_blocks(tmp_path, {"seed": 1}).iterdir()] == ["plan.json"]


def test_a_damaged_block_is_named(tmp_path: Path):
    blocks = begin_blocks(tmp_path, {"seed": 1})
    (blocks / "00000.jsonl").write_text("{")
    with pytest.raises(DataError, match=r"00000\.jsonl:1 is not JSON"):
        list(made_blocks(blocks, [[1]], lambda part: []))


def test_a_block_that_fails_leaves_no_file(tmp_path: Path):
    def fail(part):
        raise KeyboardInterrupt

    blocks = begin_blocks(tmp_path, {"seed": 1})
    with pytest.raises(KeyboardInterrupt):
        list(made_blocks(blocks, [[1]], fail))
    assert [path.name for path in blocks.iterdir()] == ["plan.json"]


def test_the_plan_is_kept_as_json(tmp_path: Path):
    blocks = begin_blocks(tmp_path, {"seed": 1})
    assert json.loads((blocks / "plan.json").read_text()) == {"seed": 1}


def test_conversations_have_one_fingerprint_by_id_text_and_order():
    rows = [talk("a"), talk("b")]
    assert fingerprint_of_conversations(rows) == fingerprint_of_conversations([talk("a"), talk("b")])
    others = [rows[::-1], [talk("a"), talk("c")], [talk("a"), talk("b", "ho")], rows[:1]]
    assert len({fingerprint_of_conversations(other) for other in [rows, *others]}) == 5


def test_two_conversations_of_one_id_are_refused():
    with pytest.raises(DataError, match="two conversations have the id 'a'"):
        fingerprint_of_conversations([talk("a"), talk("a", "ho")])


def test_teacher_and_student_draw_from_different_seeds():
    assert derived_seed(0, "teacher") != derived_seed(0, "student")
    assert derived_seed(0, "teacher") == derived_seed(0, "teacher") != derived_seed(1, "teacher")
