"""Graded turns as pairs: a small file by hand, and the public set's count."""

import json
import os
from pathlib import Path

import pytest

from distill.errors import DataError
from eval.coffee_pairs import coffee_pairs

CONTEXT = [
    {"role": "agent", "text": "Welcome!"},
    {"role": "user", "text": "a tea"},
    {"role": "agent", "api": {"get_menu_items": {"query": "tea"}}},
    {"role": "api", "response": {"get_menu_items": {"items": [{"name": "Chai", "attributes": [1]}]}}},
]
SAID = {"role": "agent", "text": "Here is a chai."}
CALL = {"role": "agent", "api": {"finish_order": {}}}


def graded(turn: object, reward: object, context: object = CONTEXT) -> dict[str, object]:
    return {"context": json.dumps(context), "generation": json.dumps(turn), "reward": reward}


def write(folder: Path, *rows: object) -> Path:
    (folder / "reward").mkdir(parents=True)
    (folder / "reward" / "reward_00.json").write_text(json.dumps(rows))
    return folder


def test_turns_of_one_context_make_a_pair(tmp_path: Path):
    other = [{"role": "user", "text": "hi"}]
    path = write(tmp_path, graded(SAID, 1.0), graded(CALL, 0.0), graded(SAID, 0.0, other), graded(SAID, 1.0, other))
    ((pair, context),) = coffee_pairs(path)
    assert [(m.role, m.content) for m in pair.prompt] == [
        ("user", "a tea"),
        ("assistant", "api get_menu_items query tea"),
        ("user", "response get_menu_items items name Chai"),
    ]
    assert (pair.chosen, pair.rejected) == ("Here is a chai.", "api finish_order")
    assert pair.id == f"coffee-{context}-0"


@pytest.mark.parametrize(
    "row", [graded(SAID, 0.5), {"context": "[]", "reward": 1.0}, {**graded(SAID, 1.0), "context": "["}]
)
def test_wrong_rows_are_refused(tmp_path: Path, row: object):
    with pytest.raises(DataError, match=r"reward_00\.json"):
        coffee_pairs(write(tmp_path, row))


def test_a_folder_without_files_is_refused(tmp_path: Path):
    with pytest.raises(DataError, match=r"no file reward_\*\.json is there"):
        coffee_pairs(tmp_path)


@pytest.mark.skipif("DISTILL_TEST_DATA" not in os.environ, reason="DISTILL_TEST_DATA names no folder of public data")
def test_the_public_set_holds_617_pairs():
    pairs = coffee_pairs(Path(os.environ["DISTILL_TEST_DATA"]) / "taskmaster4-coffee")
    assert len(pairs) == 617
    assert len({context for _, context in pairs}) == 220
