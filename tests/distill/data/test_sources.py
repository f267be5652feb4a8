import json
import os
from pathlib import Path

import pytest

from distill.data.records import Conversation, Message, PreferencePair
from distill.data.sources import (
    DataSettings,
    load_splits,
    part_of,
    read_conversations,
    read_pairs,
    write_conversations,
    write_pairs,
)
from distill.errors import DataError, RecipeError
from distill.settings import Settings, validated

EMBEDDED = {"source": "embedded", "num_teacher": 6, "num_prompts": 5, "num_labelled": 4, "num_valid": 3, "num_test": 2}


class Recipe(Settings):
    data: DataSettings


def rows(count, *, start=0):
    return [{"prompt": f"question {number}", "completion": "Yes."} for number in range(start, start + count)]


def write_rows(path: Path, values) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(value) + "\n" for value in values), encoding="utf-8")
    return path


def sizes(splits):
    return {split: len(conversations) for split, conversations in splits.items()}


def test_the_embedded_set_is_drawn_as_asked():
    splits = load_splits(DataSettings.model_validate(EMBEDDED), seed=1)
    assert sizes(splits) == {"teacher": 6, "prompts": 5, "labelled": 4, "valid": 3, "test": 2}
    assert all(message.role != "assistant" for c in splits["prompts"] for message in c.messages)
    assert all(c.messages[-1].role == "assistant" for c in splits["teacher"])
    assert all(c.facts["checker"] == "embedded" for conversations in splits.values() for c in conversations)
    assert splits == load_splits(DataSettings.model_validate(EMBEDDED), seed=1)


def test_one_file_is_divided_by_content(tmp_path):
    path = write_rows(tmp_path / "chats.jsonl", rows(100))
    splits = load_splits(DataSettings(source="files", path=path, num_labelled=8), seed=0)
    assert sizes(splits) == {"teacher": 40, "prompts": 40, "labelled": 8, "valid": 10, "test": 10}


def test_named_files_are_the_splits_and_train_is_divided_into_the_rest(tmp_path):
    write_rows(tmp_path / "train-00000-of-00002.jsonl", rows(50))
    write_rows(tmp_path / "train-00001-of-00002.jsonl", rows(50, start=50))
    write_rows(tmp_path / "test.jsonl", rows(7, start=200))
    splits = load_splits(DataSettings(source="files", path=tmp_path, num_labelled=0), seed=0)
    assert sizes(splits) == {"teacher": 45, "prompts": 45, "labelled": 0, "valid": 10, "test": 7}


def test_five_named_files_are_taken_as_they_are(tmp_path):
    for number, split in enumerate(("teacher", "prompts", "labelled", "valid", "test")):
        write_rows(tmp_path / f"{split}.jsonl", rows(number + 1, start=10 * number))
    splits = load_splits(DataSettings(source="files", path=tmp_path), seed=0)
    assert sizes(splits) == {"teacher": 1, "prompts": 2, "labelled": 3, "valid": 4, "test": 5}


def test_training_questions_that_test_asks_are_dropped(tmp_path):
    write_rows(tmp_path / "train.jsonl", rows(10))
    write_rows(tmp_path / "test.jsonl", rows(10))
    splits = load_splits(DataSettings(source="files", path=tmp_path), seed=0)
    assert sizes(splits) == {"teacher": 0, "prompts": 0, "labelled": 0, "valid": 0, "test": 10}


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("train", "train"),
        ("validation-00000-of-00001", "valid"),
        ("dev", "valid"),
        ("test_2", "test"),
        ("prompts.v1", "prompts"),
        ("chats", "train"),
        ("testimony", "train"),
    ],
)
def test_parts_are_known_by_the_first_word_of_their_name(name, part):
    assert part_of(name) == part


def test_a_hub_id_is_loaded_through_datasets(tmp_path, monkeypatch):
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    write_rows(tmp_path / "set" / "train.jsonl", rows(20))
    write_rows(tmp_path / "set" / "test.jsonl", rows(4, start=20))
    datasets.disable_progress_bars()
    splits = load_splits(DataSettings(source="hub", hub_id=str(tmp_path / "set"), num_labelled=3), seed=0)
    assert sizes(splits) == {"teacher": 9, "prompts": 9, "labelled": 3, "valid": 2, "test": 4}
    assert splits["test"][0].id.startswith("set test row ")


def test_a_hub_id_that_cannot_be_loaded_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"data\.hub_id is .*nothing: (.|\n)*why: `datasets` cannot load it"):
        load_splits(DataSettings(source="hub", hub_id=str(tmp_path / "nothing")), seed=0)


def test_wrong_rows_stop_the_run_with_file_and_line(tmp_path):
    path = write_rows(tmp_path / "a.jsonl", [*rows(2), {"prompt": "q", "completion": ""}])
    with pytest.raises(DataError, match=r"1 of 3 rows are wrong, the first is .*a\.jsonl:3: an answer is empty"):
        load_splits(DataSettings(source="files", path=path), seed=0)
    splits = load_splits(DataSettings(source="files", path=path, max_wrong_rows_share=0.5), seed=0)
    assert sum(sizes(splits).values()) - len(splits["labelled"]) == 2


def test_a_folder_without_data_files_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"^data\.path is .*, and no data file is there"):
        load_splits(DataSettings(source="files", path=tmp_path), seed=0)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({}, r"data\.source is missing"),
        ({"source": "embeded"}, r"data\.source is 'embeded': it should be 'embedded'"),
        (
            {"source": "embedded"},
            r"data: num_teacher, num_prompts, num_labelled, num_valid, num_test missing: source emb",
        ),
        ({**EMBEDDED, "path": "x"}, r"data: path is x, but source embedded reads no path"),
        ({"source": "files"}, r"data: path is missing: source files reads a folder or file \(data\.path=FOLDER\)"),
        ({"source": "personality-chat"}, r"data: path is missing: source personality-chat"),
        ({"source": "taskmaster4-coffee"}, r"data: path is missing: source taskmaster4-coffee"),
        ({"source": "hub"}, r"data: hub_id is missing: source hub loads a data set by its id"),
        ({"source": "hub", "hub_id": "a/b", "path": "x"}, r"data: path is x, but source hub reads no path"),
        (
            {"source": "files", "path": "x", "hub_id": "a/b"},
            r"data: hub_id is a/b, but source files reads nothing from",
        ),
        ({"source": "files", "path": "x", "subset": "s"}, r"data: subset is s, but source files"),
        ({"source": "files", "path": "x", "revision": "r"}, r"data: revision is r, but source files"),
        ({"source": "files", "path": "x", "num_test": -1}, r"data\.num_test is -1: it should be greater than or equal"),
        (
            {"source": "files", "path": "x", "num_tets": 1},
            r"data\.num_tets is not a known key \(did you mean num_test\?\)",
        ),
        ({"source": "files", "path": "x", "max_wrong_rows_share": 2}, r"data\.max_wrong_rows_share is 2: it should"),
    ],
)
def test_settings_refuse_and_say_why(values, message):
    with pytest.raises(RecipeError, match=message):
        validated(Recipe, {"data": values}, source="r.yaml")


def test_conversations_are_read_back_as_written(tmp_path):
    conversations = [
        Conversation("a", (Message("user", "Grüße"), Message("assistant", "Hi")), {"right": [1, None]}),
        Conversation("b", (Message("user", "x\ny"),)),
    ]
    assert write_conversations(tmp_path / "c.jsonl", conversations) == 2
    assert read_conversations(tmp_path / "c.jsonl") == conversations


def test_pairs_are_read_back_as_written(tmp_path):
    pairs = [PreferencePair("a", (Message("system", "s"), Message("user", "q")), "yes", "no")]
    assert write_pairs(tmp_path / "p.jsonl", pairs) == 1
    assert read_pairs(tmp_path / "p.jsonl") == pairs


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"messages": [{"role": "user", "content": "q"}]}, r"c\.jsonl:1: id is None\nwhy: a text was expected"),
        ({"id": "a", "messages": []}, r"c\.jsonl:1: messages is \[\]"),
        ({"id": "a", "messages": [{"role": "user", "content": "q"}], "facts": 5}, r"c\.jsonl:1: facts is 5"),
    ],
)
def test_wrong_conversations_are_refused(tmp_path, row, message):
    with pytest.raises(DataError, match=message):
        read_conversations(write_rows(tmp_path / "c.jsonl", [row]))


def test_wrong_pairs_are_refused(tmp_path):
    with pytest.raises(DataError, match=r"p\.jsonl:1 is no pair\nwhy: prompt, chosen and rejected are needed"):
        read_pairs(write_rows(tmp_path / "p.jsonl", rows(1)))
    with pytest.raises(DataError, match=r"p\.jsonl:1: rejected is empty"):
        read_pairs(write_rows(tmp_path / "p.jsonl", [{"prompt": "q", "chosen": "a", "rejected": ""}]))


@pytest.mark.slow
@pytest.mark.skipif("DISTILL_TEST_DATA" not in os.environ, reason="DISTILL_TEST_DATA names no folder of public data")
def test_personality_chat_is_divided_without_overlap():
    path = Path(os.environ["DISTILL_TEST_DATA"]) / "personality-chat"
    splits = load_splits(DataSettings(source="personality-chat", path=path, num_labelled=800), seed=0)
    assert sizes(splits) == {"teacher": 19685, "prompts": 19455, "labelled": 800, "valid": 4895, "test": 4900}
    asked = {split: {c.user_turns[0].content for c in found} for split, found in splits.items()}
    assert not asked["prompts"] & (asked["teacher"] | asked["labelled"] | asked["test"])
    assert not asked["test"] & (asked["teacher"] | asked["valid"])
    assert {c.facts["scenario"] for c in splits["test"]} == set(range(90))


@pytest.mark.slow
@pytest.mark.skipif("DISTILL_TEST_DATA" not in os.environ, reason="DISTILL_TEST_DATA names no folder of public data")
def test_coffee_dialogues_are_divided_without_loss():
    folder = Path(os.environ["DISTILL_TEST_DATA"]) / "taskmaster4-coffee"
    splits = load_splits(DataSettings(source="taskmaster4-coffee", path=folder), seed=0)
    assert sum(len(splits[split]) for split in ("teacher", "prompts", "valid", "test")) == 3685
