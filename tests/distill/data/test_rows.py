import json
import logging
from pathlib import Path

import pytest

from distill.data.rows import Row, WrongRow, read_rows, records_of, rows_of_table
from distill.errors import DataError

ROWS = [{"prompt": "Hi", "completion": "Hello"}, {"prompt": 'Bye, "you"\nthere', "completion": "Bye"}]


def written(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def values_of(path: Path) -> list[object]:
    return [row.values for row in read_rows(path)]


def test_json_lines_name_the_line_and_skip_blank_ones(tmp_path):
    path = written(tmp_path / "a.jsonl", json.dumps(ROWS[0]) + "\n\n" + json.dumps(ROWS[1]) + "\n")
    assert list(read_rows(path)) == [Row(f"{path}:1", ROWS[0]), Row(f"{path}:3", ROWS[1])]


def test_wrong_json_lines_are_rows_too(tmp_path):
    path = written(tmp_path / "a.jsonl", '{"a": 1}\n{broken\n[1]\n')
    assert list(read_rows(path)) == [
        Row(f"{path}:1", {"a": 1}),
        WrongRow(f"{path}:2", "the line is not JSON"),
        WrongRow(f"{path}:3", "the row is not an object"),
    ]


def test_a_json_list_counts_its_rows(tmp_path):
    path = written(tmp_path / "a.json", json.dumps([*ROWS, 5]))
    assert list(read_rows(path)) == [
        Row(f"{path} row 1", ROWS[0]),
        Row(f"{path} row 2", ROWS[1]),
        WrongRow(f"{path} row 3", "the row is not an object"),
    ]


def test_csv_names_the_line_a_row_begins_on(tmp_path):
    path = written(tmp_path / "a.csv", 'prompt,completion\nHi,Hello\n"Bye, ""you""\nthere",Bye\nx,y\n')
    rows = list(read_rows(path))
    assert rows[:2] == [Row(f"{path}:2", ROWS[0]), Row(f"{path}:3", ROWS[1])]
    assert rows[2].where == f"{path}:5"


def test_csv_cells_with_json_are_read_and_empty_ones_absent(tmp_path):
    cell = json.dumps([{"role": "user", "content": "Hi"}]).replace('"', '""')
    path = written(tmp_path / "a.csv", f'messages,id,note\n"{cell}",,[sic\n')
    assert values_of(path) == [{"messages": [{"role": "user", "content": "Hi"}], "note": "[sic"}]


def test_csv_rows_that_do_not_fit_the_header_are_wrong(tmp_path):
    path = written(tmp_path / "a.csv", "prompt,completion\nHi\nHi,Hello,more\nHi,Hello\n")
    reason = "the row has more or fewer cells than the header"
    assert list(read_rows(path)) == [
        WrongRow(f"{path}:2", reason),
        WrongRow(f"{path}:3", reason),
        Row(f"{path}:4", ROWS[0]),
    ]


def test_csv_with_an_open_quote_is_wrong_from_there(tmp_path):
    path = written(tmp_path / "a.csv", 'prompt,completion\nHi,Hello\n"Hi,Hello\n')
    rows = list(read_rows(path))
    assert rows[0] == Row(f"{path}:2", ROWS[0])
    assert (rows[1].where, rows[1].reason[:24]) == (f"{path}:3", "the line is not CSV (une")


def test_parquet_counts_its_rows(tmp_path):
    import pyarrow
    import pyarrow.parquet

    path = tmp_path / "a.parquet"
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(ROWS), path)
    assert list(read_rows(path)) == [Row(f"{path} row 1", ROWS[0]), Row(f"{path} row 2", ROWS[1])]


def test_a_file_that_is_no_parquet_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"a\.parquet is not a Parquet file"):
        list(read_rows(written(tmp_path / "a.parquet", "junk")))


def test_a_json_file_that_is_broken_or_no_list_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"a\.json:2 is not JSON"):
        list(read_rows(written(tmp_path / "a.json", "[1,\n")))
    with pytest.raises(DataError, match=r"a\.json holds a dict\nwhy: a list of rows was expected"):
        list(read_rows(written(tmp_path / "a.json", "{}")))


def test_files_that_are_missing_or_of_another_kind_are_refused(tmp_path):
    with pytest.raises(DataError, match=r"none\.jsonl does not exist"):
        list(read_rows(tmp_path / "none.jsonl"))
    with pytest.raises(DataError, match=r"a\.txt is no data file\nwhy: rows are read from \.jsonl, \.json, \.csv"):
        list(read_rows(tmp_path / "a.txt"))


def test_a_file_that_is_not_utf8_is_refused(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"a": "\xff"}\n')
    with pytest.raises(DataError, match=r"a\.jsonl is not UTF-8"):
        list(read_rows(path))


def test_rows_of_a_table_are_counted_from_one():
    assert list(rows_of_table(ROWS, name="org/set train"))[1] == Row("org/set train row 2", ROWS[1])


def even(row: Row) -> int:
    number = row.values["n"]
    assert isinstance(number, int)
    if number % 2:
        raise DataError(f"{row.where}: n is {number}", why="n is odd" if number < 9 else "")
    return number


def numbered(*numbers: int) -> list[Row | WrongRow]:
    return [Row(f"f:{n}", {"n": n}) for n in numbers]


def test_wrong_rows_are_named_counted_and_left_out(caplog):
    rows = [*numbered(0, 1, 2, 3, 4, 6, 11), WrongRow("f:99", "the line is not JSON")]
    with caplog.at_level(logging.WARNING):
        assert records_of(rows, even, name="f", max_wrong_share=0.5) == [0, 2, 4, 6]
    assert [record.getMessage() for record in caplog.records] == [
        "f:1: n is odd; row left out",
        "f:3: n is odd; row left out",
        "f:11: n is 11; row left out",
        "f:99: the line is not JSON; row left out",
        "f: left out 4 of 8 rows: 2 times n is odd; 1 times n is 11; 1 times the line is not JSON",
    ]


def test_only_the_first_wrong_rows_are_named(caplog):
    with caplog.at_level(logging.WARNING):
        records_of(numbered(*range(0, 40), *[1] * 20), even, name="f", max_wrong_share=0.9)
    assert len(caplog.records) == 5 + 1


def test_too_many_wrong_rows_stop_the_run():
    with pytest.raises(DataError) as error:
        records_of(numbered(0, 1, 3, 4), even, name="f", max_wrong_share=0.25)
    assert str(error.value) == (
        "f: 2 of 4 rows are wrong, the first is f:1: n is odd\n"
        "why: data.max_wrong_rows_share is 0.25 (2 times n is odd)\n"
        "fix: mend the rows, or raise data.max_wrong_rows_share"
    )


def test_a_share_exactly_at_the_limit_passes():
    assert records_of(numbered(0, 2, 4, 1), even, name="f", max_wrong_share=0.25) == [0, 2, 4]


def test_no_rows_are_refused():
    with pytest.raises(DataError, match=r"^f holds no rows"):
        records_of([], even, name="f", max_wrong_share=1)
