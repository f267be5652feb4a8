import pytest

from distill.errors import RecipeError
from distill.files import write_json
from eval.scores import Interval
from eval.speed.figures import Spread
from eval.steering_figures import SteeringArm, SteeringFigures, points, read_steering

HALF = Interval(0.5, 0.4, 0.6)
PLAIN = SteeringArm(
    name="prompting alone",
    personality=HALF,
    scenario=HALF,
    both=HALF,
    by_personality={"warm": HALF},
    differences={},
)
STEERED = PLAIN.model_copy(
    update={
        "name": "ratio 2",
        "ratio": 2.0,
        "difference": Interval(0.1, -0.05, 0.2),
        "differences": {"warm": Interval(0.1, -0.05, 0.2)},
        "ms_per_token": Spread(median=0.5, low=0.4, high=0.6),
        "cost": Spread(median=1.9, low=1.8, high=2.0),
    }
)
FIGURES = SteeringFigures(described="Two ways", arms=(PLAIN, STEERED))


def test_a_difference_is_told_in_points():
    assert points(Interval(0.1, -0.05, 0.2)) == "+10.0 [−5.0, +20.0]"


def test_the_tables_show_every_figure():
    text = FIGURES.to_markdown()
    assert text.startswith("Two ways:\n\nSteering:\n\n| decoding | personality accuracy |")
    row = "| ratio 2 | 50.0 % [40.0, 60.0] | +10.0 [−5.0, +20.0] |"
    assert row in text
    assert "| 0.50 | 1.90 [1.80, 2.00] x |" in text
    assert "| decoding | warm |" in text
    assert "| prompting alone | 50.0 % |" in text
    assert "| ratio 2 | 50.0 % (+10.0 [−5.0, +20.0]) |" in text


def test_figures_read_back(tmp_path):
    path = tmp_path / "results.json"
    write_json(path, FIGURES.model_dump(mode="json"))
    assert read_steering(path) == FIGURES
    write_json(path, {"format": "something else"})
    with pytest.raises(RecipeError, match="described is missing"):
        read_steering(path)
