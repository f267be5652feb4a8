import json
from pathlib import Path

import pytest

from distill.cli_output import is_main_rank, print_facts, print_object, print_results, print_table
from distill.files import write_json
from eval.scores import Interval
from eval.steering_figures import SteeringArm, SteeringFigures

ROWS = [{"tier": "exact", "bytes_per_token": 192.0}, {"tier": "sampled", "bytes_per_token": None}]


def test_a_table_has_a_title_headings_and_short_numbers(capsys: pytest.CaptureFixture[str]):
    print_table("tiers", ROWS, as_json=False)
    out = capsys.readouterr().out
    for part in ("tiers", "bytes_per_token", "exact", "192", "–"):
        assert part in out
    assert "192.0" not in out


def test_json_is_the_rows_as_they_are(capsys: pytest.CaptureFixture[str]):
    print_table("tiers", ROWS, as_json=True)
    assert json.loads(capsys.readouterr().out) == ROWS
    print_facts("facts", {"a": 1}, as_json=True)
    assert json.loads(capsys.readouterr().out) == [{"what": "a", "value": 1}]
    print_object({"a": {"b": 1}})
    assert json.loads(capsys.readouterr().out) == {"a": {"b": 1}}


def test_an_empty_table_says_so(capsys: pytest.CaptureFixture[str]):
    print_table("artefacts", [], as_json=False)
    assert "nothing" in capsys.readouterr().out


def test_of_a_launchers_processes_the_main_one_prints(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    assert is_main_rank()
    monkeypatch.setenv("RANK", "1")
    print_table("tiers", ROWS, as_json=False)
    print_object({})
    assert not is_main_rank()
    assert capsys.readouterr().out == ""


def test_what_a_principle_reached_is_printed_where_it_was_measured(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    share = Interval(0.5, 0.4, 0.6)
    arm = SteeringArm(
        name="ratio 2", personality=share, scenario=share, both=share, by_personality={"warm": share}, differences={}
    )
    figures = SteeringFigures(described="One way", arms=(arm,))
    write_json(tmp_path / "linear_alignment" / "results.json", figures.model_dump(mode="json"))
    print_results(tmp_path, is_whole=True, as_json=False)
    out = capsys.readouterr().out
    for part in ("One way", "ratio 2", "50.0 %", "warm"):
        assert part in out
    print_results(tmp_path, is_whole=True, as_json=True)
    assert json.loads(capsys.readouterr().out)["described"] == "One way"
    print_results(tmp_path, is_whole=False, as_json=False)
    assert "One way" not in capsys.readouterr().out
