import hashlib
import json

import pytest

from distill.errors import DataError, StageError
from distill.files import (
    fingerprint,
    fingerprint_of_folder,
    locked,
    read_json,
    read_jsonl,
    replacing_file,
    replacing_folder,
    sha256_of_file,
    write_json,
    write_jsonl,
    write_text,
)


class CutOffError(Exception):
    """Stands for whatever ends a writer half-way."""


def names_in(folder):
    return sorted(path.name for path in folder.iterdir())


def write_half(replacing):
    with replacing as partial:
        (partial / "half.txt" if partial.is_dir() else partial).write_text("half", encoding="utf-8")
        raise CutOffError


def test_a_file_appears_when_its_writer_is_done(tmp_path):
    path = tmp_path / "inner" / "a.txt"
    with replacing_file(path) as partial:
        partial.write_text("new", encoding="utf-8")
        assert not path.exists()
    assert path.read_text(encoding="utf-8") == "new"
    assert names_in(path.parent) == ["a.txt"]


def test_a_writer_that_fails_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "a.txt"
    write_text(path, "old")
    with pytest.raises(CutOffError):
        write_half(replacing_file(path))
    assert path.read_text(encoding="utf-8") == "old"
    assert names_in(tmp_path) == ["a.txt"]


def test_a_folder_takes_the_place_of_the_old_one(tmp_path):
    folder = tmp_path / "model"
    for content in ("old", "new"):
        with replacing_folder(folder) as partial:
            (partial / f"{content}.txt").write_text(content, encoding="utf-8")
    assert names_in(folder) == ["new.txt"]
    assert names_in(tmp_path) == ["model"]


def test_a_folder_whose_writer_fails_stays_as_it_was(tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "old.txt").write_text("old", encoding="utf-8")
    with pytest.raises(CutOffError):
        write_half(replacing_folder(folder))
    assert names_in(folder) == ["old.txt"]
    assert names_in(tmp_path) == ["model"]


def test_a_folder_whose_writer_was_killed_between_its_renames_comes_back(tmp_path):
    """Killed after `path` went to its outgoing name and before the new folder took its place."""
    outgoing = tmp_path / ".model.0123abcd.outgoing"
    outgoing.mkdir()
    (outgoing / "old.txt").write_text("old", encoding="utf-8")
    with pytest.raises(CutOffError):
        write_half(replacing_folder(tmp_path / "model"))
    assert names_in(tmp_path) == ["model"]
    assert names_in(tmp_path / "model") == ["old.txt"]


def test_what_killed_writers_left_is_removed_and_what_belongs_to_others_is_not(tmp_path):
    others = [".model.v2.0123abcd.partial", ".other.0123abcd.partial"]
    for name in (".model.0123abcd.outgoing", ".model.89abcdef.partial", "model", *others):
        (tmp_path / name).mkdir()
    (tmp_path / "model" / "whole.txt").touch()
    with pytest.raises(CutOffError):
        write_half(replacing_folder(tmp_path / "model"))
    assert names_in(tmp_path) == [*others, "model"]
    assert names_in(tmp_path / "model") == ["whole.txt"]


def test_json_is_read_back_as_written(tmp_path):
    write_json(tmp_path / "a.json", {"b": [1, None], "a": "ü"})
    assert read_json(tmp_path / "a.json") == {"a": "ü", "b": [1, None]}
    assert (tmp_path / "a.json").read_text(encoding="utf-8").startswith('{\n  "a": "ü",\n')


def test_numbers_that_are_not_finite_are_not_json(tmp_path):
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "a.json", {"loss": float("nan")})
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_jsonl(tmp_path / "a.jsonl", [{"loss": 1.0}, {"loss": float("inf")}])
    assert names_in(tmp_path) == []


def test_json_lines_are_read_back_with_their_numbers(tmp_path):
    path = tmp_path / "a.jsonl"
    assert write_jsonl(path, [{"a": 1}, {"a": "line\nbreak"}]) == 2
    assert list(read_jsonl(path)) == [(1, {"a": 1}), (2, {"a": "line\nbreak"})]
    path.write_text('\n{"a": 1}\n\n', encoding="utf-8")
    assert list(read_jsonl(path)) == [(2, {"a": 1})]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"{", r"a\.json is not JSON"),
        (b"[1]", r"a\.json holds a list\nwhy: an object was expected"),
        (b'"\xff"', r"a\.json is not JSON"),
    ],
)
def test_wrong_json_is_refused(tmp_path, content, message):
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(DataError, match=message):
        read_json(tmp_path / "a.json")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"a": 1}\n{\n', r"a\.jsonl:2 is not JSON"),
        (b"5\n", r"a\.jsonl:1 holds a int\nwhy: an object was expected"),
        (b'{"a": "\xff"}\n', r"a\.jsonl is not UTF-8"),
        (b'{"a": "\\ud83d"}\n', r"a\.jsonl:1 holds half a character"),
        (b'{"a": ' + b"1" * 5000 + b"}\n", r"a\.jsonl:1 is not JSON"),
    ],
)
def test_wrong_json_lines_are_refused_by_file_and_line(tmp_path, content, message):
    (tmp_path / "a.jsonl").write_bytes(content)
    with pytest.raises(DataError, match=message):
        list(read_jsonl(tmp_path / "a.jsonl"))


def test_missing_files_are_refused(tmp_path):
    with pytest.raises(DataError, match=r"none\.json does not exist"):
        read_json(tmp_path / "none.json")
    with pytest.raises(DataError, match=r"none\.jsonl does not exist"):
        list(read_jsonl(tmp_path / "none.jsonl"))


def test_sha256_is_of_the_bytes(tmp_path):
    (tmp_path / "a").write_bytes(b"abc")
    assert sha256_of_file(tmp_path / "a") == hashlib.sha256(b"abc").hexdigest()


def test_a_fingerprint_is_of_the_canonical_json():
    expected = hashlib.sha256(json.dumps({"a": 1, "b": [2]}, separators=(",", ":")).encode()).hexdigest()
    assert fingerprint({"b": [2], "a": 1}) == expected


def test_a_moved_folder_keeps_its_fingerprint_and_a_changed_one_does_not(tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"
    for folder in (first, second):
        (folder / "inner").mkdir(parents=True)
        (folder / "inner" / "a.txt").write_text("a", encoding="utf-8")
        (folder / "b.json").write_text("{}", encoding="utf-8")
    assert fingerprint_of_folder(first) == fingerprint_of_folder(second)
    (second / "inner" / "a.txt").rename(second / "inner" / "c.txt")
    assert fingerprint_of_folder(first) != fingerprint_of_folder(second)
    assert fingerprint_of_folder(first, pattern="*.json") == fingerprint_of_folder(second, pattern="*.json")


def test_a_lock_is_refused_to_a_second_holder_and_free_afterwards(tmp_path):
    path = tmp_path / "run" / ".lock"
    refused = pytest.raises(StageError, match=r"run is in use by another process\nwhy: .*\nfix: wait")
    with locked(path), refused, locked(path):
        pass
    with locked(path):
        assert path.exists()
