"""A journal's rows are there or not, never half and never twice."""

from pathlib import Path

import pytest

from distill.errors import DataError
from distill.preference.row_journal import RowJournal


def filled(path: Path) -> bytes:
    RowJournal(path, made_of="m").append([("a", {"reply": "one"}), ("b", {"reply": "zwölf\nlines"})])
    return path.read_bytes()


def test_rows_are_read_back_in_order(tmp_path: Path):
    filled(tmp_path / "j.jsonl")
    again = RowJournal(tmp_path / "j.jsonl", made_of="m")
    assert again.rows == {"a": {"reply": "one"}, "b": {"reply": "zwölf\nlines"}}
    assert list(again.rows) == ["a", "b"]
    assert "a" in again and "c" not in again and len(again) == 2  # noqa: PT018


def test_a_journal_cut_anywhere_goes_on_without_a_row_lost_or_doubled(tmp_path: Path):
    """Every byte at which a kill may have stopped the writing of two rows: what is left is a prefix of the rows."""
    whole = filled(tmp_path / "whole.jsonl")
    begin = whole.index(b"\n") + 1
    for length in range(begin, len(whole) + 1):
        path = tmp_path / "cut.jsonl"
        path.write_bytes(whole[:length])
        journal = RowJournal(path, made_of="m")
        assert list(journal.rows) == ["a", "b"][: whole[begin:length].count(b"\n")]
        missing = [(key, {"reply": key}) for key in ("a", "b") if key not in journal]
        journal.append(missing)
        assert list(RowJournal(path, made_of="m").rows) == ["a", "b"]


def test_rows_made_of_something_else_are_not_used(tmp_path: Path):
    filled(tmp_path / "j.jsonl")
    assert len(RowJournal(tmp_path / "j.jsonl", made_of="other")) == 0
    (tmp_path / "j.jsonl").write_bytes(b"half a head")
    assert len(RowJournal(tmp_path / "j.jsonl", made_of="m")) == 0


@pytest.mark.parametrize(
    ("line", "why"),
    [(b'{"key": "a"}', "stands twice"), (b'{"reply": "x"}', "key is missing"), (b"nonsense", "no JSON object")],
)
def test_a_damaged_line_is_named_and_not_quoted(tmp_path: Path, line: bytes, why: str):
    path = tmp_path / "j.jsonl"
    path.write_bytes(filled(path) + line + b"\n")
    with pytest.raises(DataError, match=rf"j\.jsonl:4 is damaged\nwhy: .*{why}") as refused:
        RowJournal(path, made_of="m")
    assert "nonsense" not in str(refused.value)
