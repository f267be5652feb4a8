import csv
import json
import re

import pytest

from distill.errors import DataError, RecipeError
from eval.agreement import HUMAN, agreement
from eval.judges.human import human_votes, read_labels, write_sheet
from eval.mt_bench import read_pair, write_pair
from eval.mt_bench.matches import all_pairs
from eval.mt_bench.show import fastchat_pair
from eval.mt_bench.strict_pair import strict_pair
from tests.judge_cases import answer, judging, pairs, singles


@pytest.fixture
def files(tmp_path):
    return tmp_path / "sheet.html", tmp_path / "apart" / "key.json"


def labels_file(tmp_path, *lines: str):
    path = tmp_path / "labels.csv"
    path.write_text("item,label\n" + "".join(f"{line}\n" for line in lines))
    return path


def key_of(path) -> dict:
    return json.loads(path.read_text())["items"]


def test_labels_come_back_as_the_models_that_stood_there(tmp_path, files):
    assert write_sheet(pairs(8), *files, seed=1) == 16
    items = key_of(files[1])
    assert {(item["left"], item["right"]) for item in items.values()} == {("a", "b"), ("b", "a")}
    path = labels_file(
        tmp_path, *(f"{name},{'left' if item['left'] == 'a' else 'Right '}" for name, item in items.items())
    )
    rows = read_labels(path, files[1], name="ann")
    assert len(rows) == 16
    assert {row.games for row in rows} == {("model_1", "model_1")}
    assert {row.judge for row in rows} == {("human-ann", "blind-sheet")}
    assert {(vote.kind, vote.winner) for vote in human_votes(rows)} == {(HUMAN, "model_a")}


@pytest.mark.parametrize("name", ["../ann", "ann/bo", "", ".ann", "ann bo", "a" * 65, "ann\n"])
def test_a_name_that_cannot_name_a_file_is_refused(tmp_path, files, name):
    write_sheet(pairs(1), *files, seed=0)
    with pytest.raises(RecipeError, match=r"(?s)a person is named.*part of a file's"):
        read_labels(labels_file(tmp_path, "pair-0001,tie"), files[1], name=name)


def test_two_people_are_two_judges_of_one_kind_who_meet(tmp_path, files):
    """Ann and Bo label 2 pairs, of which they agree on one: people among themselves meet twice."""
    write_sheet(pairs(1), *files, seed=0)
    votes = []
    for name, labels in (("ann", ("left", "tie")), ("human-bo", ("left", "right"))):
        path = labels_file(tmp_path, *(f"pair-000{n},{label}" for n, label in enumerate(labels, start=1)))
        votes += human_votes(read_labels(path, files[1], name=name))
    assert {vote.judge for vote in votes} == {"human-ann", "human-bo"}
    found = [agreement(votes, HUMAN, HUMAN, turn=turn, with_ties=True) for turn in (1, 2)]
    assert (sum(one.num_agree for one in found), sum(one.num_total for one in found)) == (1, 2)


def test_a_label_that_contradicts_an_earlier_one_is_refused_with_both_lines(tmp_path, files):
    write_sheet(pairs(1), *files, seed=0)
    earlier = tmp_path / "human-ann_pair.jsonl"
    write_pair(earlier, read_labels(labels_file(tmp_path, "pair-0001,left"), files[1], name="ann"))
    stored = earlier.read_bytes()
    path = labels_file(tmp_path, "pair-0002,tie", "pair-0001,right")
    with pytest.raises(DataError, match=r"(?s)labels\.csv:3: item pair-0001 .*human-ann_pair\.jsonl:1 says otherwise"):
        read_labels(path, files[1], name="ann", earlier=earlier)
    assert earlier.read_bytes() == stored
    write_pair(tmp_path / "human-bo_pair.jsonl", read_labels(path, files[1], name="bo"))
    with pytest.raises(DataError, match=r"human-bo_pair\.jsonl:1 is a judgment of human-bo"):
        read_labels(path, files[1], name="ann", earlier=tmp_path / "human-bo_pair.jsonl")


def test_a_further_sheet_adds_to_the_earlier_one(tmp_path, files):
    write_sheet(pairs(1), *files, seed=0)
    earlier = tmp_path / "human-ann_pair.jsonl"
    write_pair(earlier, read_labels(labels_file(tmp_path, "pair-0001,left"), files[1], name="ann"))
    rows = read_labels(labels_file(tmp_path, "pair-0001,left", "pair-0002,tie"), files[1], name="ann", earlier=earlier)
    both = read_labels(labels_file(tmp_path, "pair-0001,left", "pair-0002,tie"), files[1], name="ann")
    assert rows == both
    assert read_labels(labels_file(tmp_path, "pair-0002,tie"), files[1], name="ann", earlier=earlier) == both


def test_the_judgments_are_rows_that_every_reader_counts_alike(tmp_path, files):
    write_sheet(pairs(2), *files, seed=1)
    names = list(key_of(files[1]))
    rows = read_labels(labels_file(tmp_path, f"{names[0]},tie", f"{names[1]},left"), files[1], name="ann")
    write_pair(tmp_path / "human-ann_pair.jsonl", rows)
    again = read_pair(tmp_path / "human-ann_pair.jsonl")
    assert again == rows
    strict = {rate.model: rate for rate in strict_pair(again)}
    assert all((rate.num_ties, rate.num_wins + rate.num_losses) == (1, 1) for rate in strict.values())
    assert all(rate.num_errors == rate.num_inconsistent == 0 for rate in strict.values())
    assert [rate.num_ties for rate in fastchat_pair(again, baseline=None)] == [1, 1]
    assert {row.extra["num_games"] for row in again} == {1}


def test_the_sheet_names_no_model_and_the_same_seed_gives_the_same_sheet(files, tmp_path):
    models = ("secret-student", "secret-teacher!")
    answers = {  # texts that name no model, as real ones do not
        model: {n: answer(n, model, f"one {n} {len(model)}", f"two {n} {len(model)}") for n in range(1, 5)}
        for model in models
    }
    anonymous = all_pairs(judging("pair", num_questions=4, models=models, answers=answers)).judged
    write_sheet(anonymous, *files, seed=3)
    page = files[0].read_text()
    assert "secret" not in page
    write_sheet(anonymous, tmp_path / "again.html", tmp_path / "again.json", seed=3)
    write_sheet(anonymous, tmp_path / "other.html", tmp_path / "other.json", seed=4)
    assert (tmp_path / "again.html").read_text() == page != (tmp_path / "other.html").read_text()


def test_the_page_escapes_answers_and_asks_no_other_address(files):
    evil = "<script>alert(1)</script> </p> {{ 7 * 7 }} \"'"
    answers = {model: {1: answer(1, model, evil, evil)} for model in ("a", "b")}
    write_sheet(all_pairs(judging("pair", num_questions=1, models=("a", "b"), answers=answers)).judged, *files, seed=0)
    page = files[0].read_text()
    assert page.count("<script>") == 1
    assert "&lt;script&gt;alert(1)&lt;/script&gt; &lt;/p&gt; {{ 7 * 7 }}" in page
    assert "default-src 'none'" in page
    assert not re.search(r"(?:src|href)\s*=\s*[\"']?(?:https?:)?//", page)


def test_a_table_shows_the_same_with_an_empty_label(tmp_path, files):
    sheet = tmp_path / "sheet.csv"
    write_sheet(pairs(1), sheet, files[1], seed=0, form="csv")
    with sheet.open(newline="") as handle:
        rows = list(csv.DictReader(handle))
    assert [row["item"] for row in rows] == list(key_of(files[1]))
    assert all(row["label"] == "" and row["left"].startswith("user: ask 1.1") for row in rows)
    sheet.write_text(sheet.read_text().replace(",\n", ",tie\n").replace(",\r\n", ",tie\r\n"))
    assert len(read_labels(sheet, files[1], name="bo")) == 2


def test_unlabelled_pairs_are_left_out_and_said(tmp_path, files, caplog):
    write_sheet(pairs(1), *files, seed=0)
    assert len(read_labels(labels_file(tmp_path, "pair-0001,tie", "pair-0002,"), files[1], name="ann")) == 1
    assert "1 of 2 pairs have no label" in caplog.text


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["pair-0001,tie", "pair-0009,tie"], r"labels\.csv:3: item is 'pair-0009'"),
        (["pair-0001,tie", "pair-0001,left"], r"labels\.csv:3: item pair-0001 is labelled twice"),
        (["pair-0001,middle"], r"labels\.csv:2: label is 'middle'"),
        (["pair-0001,"], r"labels\.csv holds no label"),
    ],
)
def test_wrong_labels_are_named_with_file_and_line(tmp_path, files, lines, message):
    write_sheet(pairs(1), *files, seed=0)
    with pytest.raises(DataError, match=message):
        read_labels(labels_file(tmp_path, *lines), files[1], name="ann")


def test_files_that_are_no_labels_are_refused(tmp_path, files):
    write_sheet(pairs(1), *files, seed=0)
    path = tmp_path / "labels.csv"
    with pytest.raises(DataError, match="does not exist"):
        read_labels(path, files[1], name="ann")
    path.write_text("item;label\npair-0001;tie\n")
    with pytest.raises(DataError, match=r"labels\.csv:1 names the columns item;label"):
        read_labels(path, files[1], name="ann")
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(DataError, match="is not UTF-8"):
        read_labels(path, files[1], name="ann")


def test_a_damaged_key_is_refused(tmp_path, files):
    write_sheet(pairs(1), *files, seed=0)
    files[1].write_text('{"seed": 0}')
    with pytest.raises(RecipeError, match=r"key\.json: items"):
        read_labels(labels_file(tmp_path, "pair-0001,tie"), files[1], name="ann")


def test_nothing_to_compare_is_refused(files):
    with pytest.raises(RecipeError, match="there is no pair to label"):
        write_sheet(singles(1), *files, seed=0)
    with pytest.raises(RecipeError, match="sheet and key are both"):
        write_sheet(pairs(1), files[0], files[0], seed=0)
