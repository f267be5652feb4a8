import pytest

from distill.export.lineage import is_hub_id, known, shown_name


@pytest.mark.parametrize("name", ["Qwen/Qwen2.5-1.5B", "me/tiny_1"])
def test_owner_and_name_are_a_hub_id(name):
    assert is_hub_id(name)
    assert shown_name(name) == name


@pytest.mark.parametrize("name", [None, "", "tiny", "/a/b", "a/b/c", "../x", "a/ b", ".a/b", "a/b\n", "é/b"])
def test_anything_else_is_none(name):
    assert not is_hub_id(name)


def test_a_folder_that_is_here_is_no_hub_id(tmp_path, monkeypatch):
    (tmp_path / "me" / "tiny").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert not is_hub_id("me/tiny")


def test_of_a_path_only_the_last_part_is_shown():
    assert shown_name("/data/models/teacher") == "teacher"
    assert shown_name("random weights") == "random weights"


def test_what_says_nothing_is_left_out():
    assert known({"a": "", "b": " \n", "c": " x "}) == {"c": "x"}
