import sys
from pathlib import Path

import pytest

from distill.errors import DataError
from distill.files import write_json
from eval.published import published_benchmark
from eval.scores import Interval
from eval.speed.figures import RateDistortion
from eval.steering_figures import NO_PRINCIPLE, PROMPTING, SteeringArm, SteeringFigures
from eval.steering_picture import draw_steering, main


def arm(name: str, mean: float, *, ratio: float | None = None) -> SteeringArm:
    value = Interval(mean, mean - 0.1, mean + 0.1)
    return SteeringArm(
        name=name,
        ratio=ratio,
        personality=value,
        scenario=value,
        both=value,
        by_personality={"warm": value, "brisk": value},
        differences={},
    )


FIGURES = SteeringFigures(
    described="Ways",
    arms=(arm(NO_PRINCIPLE, 0.2), arm(PROMPTING, 0.5), arm("ratio 2", 0.8, ratio=2.0), arm("ratio 0", 0.5, ratio=0.0)),
)


def test_every_personality_is_a_line_over_the_ratios():
    left, right = draw_steering(FIGURES).axes
    lines = {container.get_label(): container[0] for container in left.containers}
    assert set(lines) == {"all", "brisk", "warm"}
    assert list(lines["all"].get_xdata()) == [0.0, 2.0]
    assert list(lines["all"].get_ydata()) == [50.0, 80.0]
    assert [text.get_text() for text in left.texts] == [PROMPTING, NO_PRINCIPLE]
    assert {container.get_label() for container in right.containers} == {"personality", "scenario", "both"}


def test_figures_without_a_ratio_are_refused():
    with pytest.raises(DataError, match="hold no ratio"):
        draw_steering(SteeringFigures(described="Ways", arms=(arm(PROMPTING, 0.5),)))


def test_the_command_draws_published_figures_and_refuses_others(tmp_path: Path, monkeypatch):
    file, picture = tmp_path / "figures.json", tmp_path / "picture.svg"
    for figures in (FIGURES, RateDistortion(teachers=(), notes=())):
        found = published_benchmark(figures, command="x", elapsed_s=1.0)
        write_json(file, found.model_dump(mode="json"))
        monkeypatch.setattr(sys, "argv", ["steering_picture", str(file), str(picture)])
        if figures is FIGURES:
            main()
            assert 2_000 < picture.stat().st_size < 150_000
        else:
            with pytest.raises(DataError, match=r"holds no figures of Linear Alignment\nwhy: .*\nfix: "):
                main()
