"""Laws of what is held out."""

import itertools
import re
from collections import Counter

import pytest

from distill.embedded import SPLITS, draw
from distill.embedded.intents import PARTS, intents
from distill.embedded.splits import PART_OF_SPLIT, belongs, part_of_combination, require_split
from distill.errors import DataError

ROWS = {split: draw(split, num_dialogues=400, seed=7) for split in SPLITS}


def user_texts(row):
    return tuple(message["content"] for message in row["messages"] if message["role"] == "user")


def combinations(split):
    found = set()
    for row in ROWS[split]:
        for turn in row["facts"]["turns"]:
            if part_of_combination(intents()[turn["intent"]], turn["slots"]) is not None:
                found.add((turn["intent"], *sorted(turn["slots"].items())))
    return found


def test_a_phrasing_stands_in_one_part_and_one_intent():
    """A question that comes after an order may share its words with one after a reminder, in one part."""
    parts = {}
    for intent in intents().values():
        for part in PARTS:
            for phrasing in intent.phrasings[part]:
                parts.setdefault(phrasing.lower(), set()).add(part)
    assert [phrasing for phrasing, found in parts.items() if len(found) > 1] == []


def test_every_intent_has_forty_ways_of_asking_and_held_out_ones():
    for intent in intents().values():
        num = Counter({part: len(set(intent.phrasings[part])) for part in PARTS})
        assert num["train"] >= 40, intent.id
        assert num["valid"] >= 1, intent.id
        assert num["test"] >= 2, intent.id


def words(phrasing):
    return tuple(re.findall(r"\{\w+\}|[a-z0-9']+", phrasing.lower()))


def differ_by_more_than_a_word(first, second):
    """No single word inserted, left out or replaced turns one into the other."""
    if abs(len(first) - len(second)) > 1:
        return True
    same = len(list(itertools.takewhile(lambda pair: pair[0] == pair[1], zip(first, second, strict=False))))
    rests = {(first[i:], second[j:]) for i, j in ((same + 1, same + 1), (same + 1, same), (same, same + 1))}
    return first != second and all(a != b for a, b in rests)


def test_one_word_is_the_least_difference():
    base = words("When do you open?")
    for near in (
        "When do you open",
        "When do you close?",
        "So when do you open?",
        "When do you open then?",
        "Do you open?",
    ):
        assert not differ_by_more_than_a_word(base, words(near))
    assert differ_by_more_than_a_word(base, words("When will you close?"))
    assert differ_by_more_than_a_word(base, words("Do you open then?"))


def test_no_training_phrasing_is_within_a_word_of_a_held_out_one():
    for intent in intents().values():
        for part in ("valid", "test"):
            for held_out in map(words, intent.phrasings[part]):
                near = [p for p in intent.phrasings["train"] if not differ_by_more_than_a_word(words(p), held_out)]
                assert near == [], intent.id


@pytest.mark.parametrize("split", SPLITS)
def test_slot_combinations_belong_to_the_split(split):
    for row in ROWS[split]:
        for turn in row["facts"]["turns"]:
            part = part_of_combination(intents()[turn["intent"]], turn["slots"])
            assert part in (PART_OF_SPLIT[split], None)


def test_no_combination_of_the_test_split_is_seen_elsewhere():
    elsewhere = set().union(*(combinations(split) for split in SPLITS if split != "test"))
    assert combinations("test")
    assert not combinations("test") & elsewhere


def test_follow_ups_without_new_slots_share_the_decision_of_their_frame():
    slots = {"size": "large", "drink": "latte", "name": "Ada"}
    parts = {part_of_combination(intents()[name], slots) for name in ("order_named", "recall_order", "takeaway")}
    assert len(parts) == 1


def test_a_single_fact_is_not_a_combination_but_a_name_is():
    assert part_of_combination(intents()["open_time"], {"day": "Monday"}) is None
    assert part_of_combination(intents()["introduce"], {"name": "Ada"}) in PARTS


def test_training_splits_share_no_dialogue():
    texts = [{user_texts(row) for row in ROWS[split]} for split in ("teacher", "prompts", "labelled")]
    assert len(set().union(*texts)) == sum(map(len, texts))


def test_every_training_dialogue_belongs_to_exactly_one_split():
    for row in ROWS["teacher"] + ROWS["prompts"]:
        assert sum(belongs(split, user_texts(row)) for split in ("teacher", "prompts", "labelled")) == 1


def test_require_split_names_the_splits():
    with pytest.raises(DataError, match="teacher, prompts, labelled, valid, test"):
        require_split("dev")
