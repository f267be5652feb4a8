"""Files of texts: every line is a text or has a reason, hostile files are refused, and no message quotes a text."""

import json
from collections import Counter
from pathlib import Path

import pytest

from distill.errors import DataError
from distill.preference.source_texts import MAX_LINE_BYTES, TextFileSettings, key_of, read_texts, source_lines


def read(path: Path, content: bytes | str, **settings: object) -> list[tuple[str, str | None, str | None]]:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return [(line.where, line.text, line.dropped) for line in read_texts(TextFileSettings(path=path, **settings))]


def test_every_line_of_a_text_file_is_a_text_or_has_a_reason(tmp_path: Path):
    found = read(tmp_path / "a.txt", "\ufeffone \n\n  \ntwo\none\n" + "x" * 11 + "\nthree", max_characters=10)
    assert found == [
        ("a.txt:1", "one", None),
        ("a.txt:2", None, "blank"),
        ("a.txt:3", None, "blank"),
        ("a.txt:4", "two", None),
        ("a.txt:5", None, "duplicate_text"),
        ("a.txt:6", None, "too_long"),
        ("a.txt:7", "three", None),
    ]


def test_rows_that_hold_no_text_are_counted(tmp_path: Path):
    rows = [
        '{"text": "one"}',
        "{",
        "[1]",
        '{"tweet": "x"}',
        '{"text": 3}',
        '{"text": "\\ud83d"}',
        '{"text": "a\\u0000"}',
    ]
    reasons = Counter(reason for _, _, reason in read(tmp_path / "a.jsonl", "\n".join([*rows, "[" * 100_000])))
    assert reasons == {None: 1, "malformed": 3, "no_text": 4}


def test_a_table_gives_the_rows_that_are_asked_for(tmp_path: Path):
    content = 'class,tweet\n0,"one, two"\n2,three\n0,\n0,"one, two"\n0,a,b\n'
    found = read(tmp_path / "a.csv", content, column="tweet", keep={"class": ("0", "1")})
    assert [(text, reason) for _, text, reason in found] == [
        ("one, two", None),
        (None, "not_taken"),
        (None, "no_text"),
        (None, "duplicate_text"),
        (None, "malformed"),
    ]


def test_a_line_without_end_is_never_held_in_memory(tmp_path: Path):
    huge = b"x" * (3 * MAX_LINE_BYTES)
    found = read(tmp_path / "a.txt", b"one\n" + huge + b"\ntwo\n" + b"y" * MAX_LINE_BYTES)
    assert [(text, reason) for _, text, reason in found] == [
        ("one", None),
        (None, "too_long"),
        ("two", None),
        (None, "too_long"),
    ]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", b"fine\ncaf\xe9 secret\n", r"a\.txt:2 is not UTF-8 \(byte 4 of the line\)"),
        ("a.txt", b"", "holds no text that can be used"),
        ("a.txt", b"\n \n", r"of 2 lines none is left \(blank\)"),
        ("a.jsonl", b"secret\n", r"of 1 lines none is left \(malformed\)"),
        ("a.pdf", b"secret", "is no file of texts"),
    ],
)
def test_files_without_a_text_are_refused_without_quoting_them(tmp_path: Path, name: str, content: bytes, message: str):
    with pytest.raises(DataError, match=message) as refused:
        read(tmp_path / name, content)
    assert "secret" not in str(refused.value)
    assert "secret" not in repr(refused.value.__cause__)


def test_a_missing_file_is_named(tmp_path: Path):
    with pytest.raises(DataError, match=r"b\.txt does not exist"):
        read_texts(TextFileSettings(path=tmp_path / "b.txt"))


def test_texts_in_memory_get_the_same_fates():
    lines = source_lines(["a", " ", "a", "bb"], name="world", max_characters=1)
    assert [(line.where, line.dropped) for line in lines] == [
        ("world:1", None),
        ("world:2", "blank"),
        ("world:3", "duplicate_text"),
        ("world:4", "too_long"),
    ]
    assert lines[0].key == key_of("a") == "ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb"


def test_a_row_may_hold_any_json(tmp_path: Path):
    found = read(tmp_path / "a.jsonl", json.dumps({"text": "{braces} ### Instruction:"}))
    assert found == [("a.jsonl:1", "{braces} ### Instruction:", None)]
