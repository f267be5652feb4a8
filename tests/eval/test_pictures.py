from pathlib import Path
from xml.etree import ElementTree

import matplotlib
import pytest
from matplotlib.figure import Figure

from eval.pictures import PICTURE_STYLE, draw_intervals, write_picture
from eval.scores import Interval


def drawn(path: Path, name: str = "all") -> Figure:
    with matplotlib.rc_context(PICTURE_STYLE):
        figure = Figure(figsize=(3, 2))
        axes = figure.subplots()
        values = [Interval(0.5, 0.4, 0.7), Interval(0.25, 0.25, 0.5)]
        draw_intervals(axes, [0.0, 1.0], values, colour="#0072b2", label=name)
        axes.legend()
        write_picture(figure, path)
    return figure


def test_a_picture_stands_alone_and_is_the_same_twice(tmp_path: Path):
    drawn(tmp_path / "a.svg")
    drawn(tmp_path / "b.svg")
    text = (tmp_path / "a.svg").read_text(encoding="utf-8")
    assert text == (tmp_path / "b.svg").read_text(encoding="utf-8")
    assert ElementTree.fromstring(text).tag.endswith("svg")
    assert "<image" not in text
    assert ">all</text>" in text
    assert not any(line.endswith(" ") for line in text.splitlines())


def test_values_and_their_ends_are_drawn_in_per_cent(tmp_path: Path):
    """0.5 of [0.4, 0.7] is a point at 50 and a bar from 40 to 70."""
    (axes,) = drawn(tmp_path / "a.svg").axes
    (container,) = axes.containers
    line, _, (bars,) = container
    assert list(line.get_ydata()) == [50.0, 25.0]
    assert [segment[:, 1].tolist() for segment in bars.get_segments()] == [
        pytest.approx([40.0, 70.0]),
        pytest.approx([25.0, 50.0]),
    ]
