"""The picture of figures that are known."""

from pathlib import Path

import pytest

from distill.errors import DataError
from distill.files import write_json
from eval.energy_figures import BestOfNRow, EnergyFigures, PairSetFigures
from eval.energy_picture import draw_energy, main
from eval.published import published_benchmark
from eval.scores import Interval
from eval.speed.figures import RateDistortion

SHARE = Interval(0.7, 0.6, 0.8)
SET = PairSetFigures(
    name="embedded",
    num_pairs=10,
    num_outcomes=20,
    num_clusters=5,
    base=SHARE,
    refined=SHARE,
    difference=Interval(-0.01, -0.02, 0.01),
    p_value=0.5,
    base_loss=SHARE,
    refined_loss=SHARE,
    loss_difference=SHARE,
    base_calibration_error=0.05,
    refined_calibration_error=0.1,
    share_kept=0.7,
    share_restarted=0.05,
    mean_steps=3.0,
)
ROWS = tuple(
    BestOfNRow(
        n=n, kl_nats=0.0, base_gold=SHARE, refined_gold=SHARE, difference=SHARE, base_proxy=0.0, refined_proxy=0.0
    )
    for n in (1, 2, 4)
)
FIGURES = EnergyFigures(described="Ways", num_seeds=5, sets=(SET,), best_of_n=ROWS)


def test_differences_stand_left_and_the_curves_right():
    left, right = draw_energy(FIGURES).axes
    assert [list(line.get_xdata()) for line in left.lines[:2]] == [[-2.0, 1.0], [-1.0]]
    assert {container.get_label() for container in right.containers} == {"base", "EBRM"}
    assert list(right.containers[0][0].get_xdata()) == [1.0, 2.0, 4.0]


def test_the_command_draws_published_figures_and_refuses_others(tmp_path: Path, monkeypatch):
    file, picture = tmp_path / "figures.json", tmp_path / "picture.svg"
    monkeypatch.setattr("sys.argv", ["energy_picture", str(file), str(picture)])
    for figures in (FIGURES, RateDistortion(teachers=(), notes=("a note",))):
        found = published_benchmark(figures, command="x", elapsed_s=1.0)
        write_json(file, found.model_dump(mode="json"))
        if figures is FIGURES:
            main()
            assert picture.read_text().startswith("<?xml")
        else:
            with pytest.raises(DataError, match="holds no figures of stage reward"):
                main()
