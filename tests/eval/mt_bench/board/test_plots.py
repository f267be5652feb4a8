import re
from xml.etree import ElementTree

import pytest

from eval.mt_bench.board.plots import colour_of, interval_plot, radar_plot
from eval.scores import Interval

NAMES = ("teacher", "a$b$ <i>", "水 \u202e model")
SERIES = {name: {spoke: Interval(5.0, 4.0, 6.0) for spoke in ("x", "y", "z")} for name in NAMES}


@pytest.fixture(scope="module")
def drawn() -> list[str]:
    rows = [("harbour", [(0, Interval(7, 6, 8)), (1, Interval(5, 4, 6))]), ("empty", [])]
    radar = radar_plot(SERIES, numbers=[0, 1, 2], categories=["x", "y", "z"], title="by <category>", key="radar")
    assert radar is not None
    return [interval_plot(rows, title="means $", key="means", names=NAMES, scale=(1, 10), zero_line=True), radar]


def test_plots_are_whole_and_take_the_pages_colours(drawn: list[str]):
    for svg in drawn:
        ElementTree.fromstring(svg)
        assert set(re.findall(r"(?:stroke|fill): (#[0-9a-f]{6})", svg)) == set()
        assert "var(--second)" in svg
        assert "http" not in svg


def test_names_from_outside_stay_text_and_are_no_mathematics(drawn: list[str]):
    for svg in drawn:
        assert "a$b$ &lt;i&gt;" in svg
        assert "水" in svg


def test_a_radar_needs_three_categories_that_all_models_share():
    assert radar_plot(SERIES, numbers=[0, 1, 2], categories=["x", "y", "w"], title="t", key="k") is None


def test_colours_come_again_after_six():
    assert colour_of(6) == colour_of(0)
    assert len({colour_of(number) for number in range(6)}) == 6
