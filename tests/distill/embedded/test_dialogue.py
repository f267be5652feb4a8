"""Laws of the drawn dialogues."""

import json
import os
import re
import subprocess
import sys
from collections import Counter

import pytest

from distill.embedded import PERSONALITIES, SPLITS, draw
from distill.embedded.intents import intents
from distill.embedded.world import SLOT_VALUES, slot_values
from distill.errors import DataError


def texts_of(row, role):
    return tuple(message["content"] for message in row["messages"] if message["role"] == role)


def test_draw_gives_system_then_two_to_four_answered_turns():
    for row in draw("teacher", num_dialogues=300, seed=1):
        roles = [message["role"] for message in row["messages"]]
        num_turns = len(row["facts"]["turns"])
        assert roles == ["system"] + ["user", "assistant"] * num_turns
        assert 2 <= num_turns <= 4
        assert row["facts"]["personality"] in PERSONALITIES


def test_facts_are_json_and_ids_unique():
    rows = draw("prompts", num_dialogues=200, seed=2)
    assert json.loads(json.dumps(rows)) == rows
    assert len({row["id"] for row in rows}) == len(rows)


def printed_by(program, *, hash_seed):
    """What the program prints in a Python of its own, without the tests' shape checks, which slow a draw tenfold."""
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", program]
    return subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout


def test_same_seed_same_dialogues_under_any_hash_seed():
    program = (
        "import hashlib, json; from distill.embedded import draw, questions;"
        "rows = [draw('teacher', num_dialogues=50, seed=3), questions()];"
        "print(hashlib.sha256(json.dumps(rows).encode()).hexdigest())"
    )
    assert len({printed_by(program, hash_seed=hash_seed) for hash_seed in ("1", "2")}) == 1


def test_another_seed_gives_other_dialogues():
    first, second = (draw("teacher", num_dialogues=20, seed=seed) for seed in (0, 1))
    assert [row["messages"] for row in first] != [row["messages"] for row in second]


@pytest.mark.parametrize("split", SPLITS)
def test_dialogues_of_a_draw_differ(split):
    rows = draw(split, num_dialogues=300, seed=4)
    assert len({json.dumps(row["messages"]) for row in rows}) == len(rows)


@pytest.mark.slow
@pytest.mark.slow
def test_forty_thousand_different_dialogues():
    program = (
        "from distill.embedded import draw;"
        "rows = draw('teacher', num_dialogues=21_000, seed=0) + draw('prompts', num_dialogues=20_000, seed=0);"
        "print(len({tuple(m['content'] for m in row['messages'] if m['role'] == 'user') for row in rows}))"
    )
    assert int(printed_by(program, hash_seed="0")) >= 40_000


@pytest.mark.slow
def test_vocabulary_of_fifteen_hundred_words():
    words = set()
    for row in draw("teacher", num_dialogues=2500, seed=0):
        words.update(re.findall(r"[a-z']+", " ".join(m["content"] for m in row["messages"]).lower()))
    assert len(words) >= 1500


@pytest.mark.slow
def test_every_intent_is_drawn_in_training_and_test():
    for split in ("teacher", "test"):
        rows = draw(split, num_dialogues=1000, seed=0)
        assert {turn["intent"] for row in rows for turn in row["facts"]["turns"]} == set(intents())


@pytest.mark.slow
def test_every_slot_value_appears_in_training():
    seen = {
        (SLOT_VALUES[slot], value)
        for row in draw("teacher", num_dialogues=12_000, seed=0)
        for turn in row["facts"]["turns"]
        for slot, value in turn["slots"].items()
    }
    slots = {slot for intent in intents().values() for slot in intent.new}
    missing = {(SLOT_VALUES[slot], value) for slot in slots for value in slot_values(slot)} - seen
    assert sorted(missing) == []


def test_most_dialogues_have_a_turn_that_leans_on_an_earlier_one():
    rows = draw("teacher", num_dialogues=1000, seed=0)
    leaning = Counter(any(turn["follows"] for turn in row["facts"]["turns"]) for row in rows)
    assert leaning[True] > 0.6 * len(rows)


def test_a_follow_up_keeps_the_slots_of_the_turn_it_refers_to():
    for row in draw("test", num_dialogues=300, seed=0):
        turns = row["facts"]["turns"]
        for position, turn in enumerate(turns):
            intent = intents()[turn["intent"]]
            if intent.needs is None:
                continue
            kept = set(turn["slots"].items()) - {(slot, turn["slots"][slot]) for slot in intent.new}
            assert any(kept <= set(earlier["slots"].items()) for earlier in turns[:position])


def test_texts_are_ascii_finished_and_short():
    for row in draw("teacher", num_dialogues=1000, seed=5):
        for message in row["messages"]:
            text = message["content"]
            assert text.isascii()
            assert "{" not in text
            assert "  " not in text
            assert text[-1] in ".!?"
            assert not re.match("[a-z]", text)
            assert not re.search(r"\ba (?!use)[aeiou]|\ban (?!hour)[^aeiou]|And and", text)
            assert len(text.split()) <= 30


def test_draw_refuses_an_unknown_split():
    with pytest.raises(DataError, match=r"split is 'train'.*\n.*teacher, prompts"):
        draw("train", num_dialogues=1, seed=0)


def test_draw_refuses_more_dialogues_than_there_are(monkeypatch):
    monkeypatch.setattr("distill.embedded.dialogue._TRIES", 0)
    with pytest.raises(DataError, match="1 dialogues of split 'valid'"):
        draw("valid", num_dialogues=1, seed=0)
