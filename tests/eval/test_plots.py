import functools
import re
from xml.etree import ElementTree

import pytest

from eval.plots import curve_svg, interval_svg, running_mean
from eval.scores import Interval

ROWS = [{"step": step, "loss": 1.0 / step} for step in range(1, 30)] + [{"step": 30, "valid_loss": 0.1}]


@functools.cache
def drawn(title: str, key: str, *metrics: tuple[str, str]) -> str:
    return curve_svg(ROWS, dict(metrics), title=title, key=key)


def curve(**changes: object) -> str:
    arguments = {
        "names": {"loss": "training", "valid_loss": "held out"},
        "title": "loss",
        "key": "sft-0",
    } | changes
    return drawn(arguments["title"], arguments["key"], *arguments["names"].items())


@functools.cache
def intervals() -> str:
    entries = [("teacher", Interval(0.93, 0.9, 0.95)), ("a & <b>", Interval(0.5, 0.4, 0.6))]
    return interval_svg(entries, title="accuracy", key="accuracy")


@pytest.mark.parametrize("svg", [curve(), intervals()], ids=["curve", "intervals"])
def test_a_plot_is_one_svg_element_that_fetches_and_runs_nothing(svg: str):
    assert ElementTree.fromstring(svg).tag == "svg"
    assert not re.search(r"https?:|xmlns|<script|<style|<image|@import|href=\"[^#]", svg)


def test_the_pages_variables_are_the_only_colours():
    assert set(re.findall(r"(?:stroke|fill): (#[0-9a-f]{6})", curve() + intervals())) == set()
    assert "var(--first)" in curve()
    assert "var(--second)" in curve()
    assert "var(--sans)" in curve()


def test_ids_of_two_plots_do_not_meet():
    first, second = (set(re.findall(r'\bid="([^"]+)"', curve(key=key))) for key in ("sft-0", "train-0"))
    assert first
    assert not first & second
    assert set(re.findall(r'(?:url\(#|href="#)([^")]+)', curve())) <= first


def test_names_from_outside_stay_text():
    assert "a &amp; &lt;b&gt;" in intervals()
    assert 'aria-label="&lt;i&gt; &quot;x&quot;"' in curve(title='<i> "x"')


def test_equal_figures_give_equal_bytes():
    fresh = curve_svg(ROWS, {"loss": "training", "valid_loss": "held out"}, title="loss", key="sft-0")
    assert fresh == curve()


def test_a_legend_names_two_curves_and_one_needs_none():
    assert "held out" in curve()
    assert "training" not in curve(names={"loss": "training"})


def test_running_mean_known_answer():
    """A window of three: ends average two values."""
    assert running_mean([0.0, 3.0, 6.0, 3.0]) == [1.5, 3.0, 4.0, 4.5]
    assert running_mean([]) == []
