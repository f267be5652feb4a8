import json

import pytest

from distill.errors import DataError, RecipeError
from eval.results import (
    HEADINGS,
    Comparison,
    ResultRow,
    ResultTable,
    count,
    megabytes,
    plus_minus,
    read_results,
    share,
    write_results,
)
from eval.scores import Interval, PairedDifference


def table() -> ResultTable:
    row = ResultRow(
        model="student after daDPO",
        kind="student",
        num_parameters=412_160,
        size_bytes=1_650_000,
        accuracy=Interval(0.8125, 0.75, 0.875),
        preference_rate=Interval(-0.075, -0.15, 0.0),
        kl_to_teacher_nats=0.12345,
        kl_standard_error_nats=0.002,
        tokens_per_s=1234.5,
    )
    paired = PairedDifference(Interval(0.031, 0.004, 0.058), 0.021, 80)
    comparison = Comparison.of(paired, first="daDPO", second="SFT")
    return ResultTable(rows=(ResultRow(model="teacher", kind="teacher"), row), comparisons=(comparison,))


def test_a_table_survives_the_round_trip_through_json(tmp_path):
    path = tmp_path / "results.json"
    write_results(path, table())
    assert read_results(path) == table()
    assert json.loads(path.read_text())["format"] == "distill-results"


def test_cells_follow_the_headings():
    missing, row = table().cells()
    assert missing == ("teacher", *"––––––")
    assert row == (
        "student after daDPO",
        "412 k",
        "1.65 MB",
        "81.2 % [75.0, 87.5]",
        "−7.5 % [−15.0, +0.0]",
        "0.1235 ± 0.0020",
        "1,234",
    )
    assert len(row) == len(table().headings) == len(HEADINGS) - 1


def test_markdown_has_a_line_a_row_and_escapes_bars():
    text = ResultTable(rows=(ResultRow(model="a|b", kind="student"),)).to_markdown()
    assert text.splitlines()[0].count("|") == len(HEADINGS)
    assert "a\\|b" in text.splitlines()[2]


@pytest.mark.parametrize(
    ("low", "high", "says"),
    [
        (-0.01, 0.03, "the interval includes 0, so these questions do not tell the two apart"),
        (0.0, 0.03, "the interval includes 0"),
        (0.005, 0.03, "the interval excludes 0, so daDPO is better"),
    ],
)
def test_a_comparison_says_whether_its_interval_includes_zero(low: float, high: float, says: str):
    comparison = Comparison.of(PairedDifference(Interval(0.01, low, high), 0.3, 80), first="daDPO", second="SFT")
    assert says in comparison.sentence()
    assert comparison.sentence().startswith("daDPO minus SFT: +1.0 points of accuracy, paired 95 % interval")
    assert "over 80 questions (permutation p = 0.300)" in comparison.sentence()


def test_the_better_model_of_a_negative_difference_is_the_second():
    paired = PairedDifference(Interval(-0.02, -0.03, -0.01), 0.01, 10)
    assert "SFT is better" in Comparison.of(paired, first="daDPO", second="SFT").sentence()


def test_figures_are_written_for_people():
    assert [count(value) for value in (None, 950, 412_160, 4_213_000, 7_615_616_512)] == [
        "–",
        "950",
        "412 k",
        "4.21 M",
        "7.62 B",
    ]
    assert [megabytes(value) for value in (None, 8_420_000, 15_231_233_024)] == ["–", "8.42 MB", "15.23 GB"]
    assert share(Interval(0.14, 0.1, 0.2), signed=True) == "+14.0 % [+10.0, +20.0]"
    assert plus_minus(0.5, None) == "0.5000"


def test_a_file_that_is_no_table_is_refused(tmp_path):
    path = tmp_path / "results.json"
    path.write_text('{"rows": [], "row": 1}')
    with pytest.raises(RecipeError, match=r"row is not a known key \(did you mean rows\?\)"):
        read_results(path)
    with pytest.raises(DataError, match="does not exist"):
        read_results(tmp_path / "absent.json")


def test_personality_accuracy_stands_under_the_table_where_it_was_measured():
    strict = ResultRow(model="teacher", kind="teacher", personality_accuracy=Interval(0.7, 0.6, 0.8))
    sentences = ResultTable(rows=(strict, ResultRow(model="student", kind="student"))).sentences()
    assert sentences == ["Accuracy in the asked personality's own words: teacher 70.0 % [60.0, 80.0]."]
    assert ResultTable(rows=()).sentences() == []
