"""What the page says of figures that are known."""

import pytest

from distill.files import write_json
from eval.energy_figures import BestOfNRow, EnergyFigures, PairSetFigures
from eval.published import published_stage, read_published
from eval.scores import Interval
from eval.stage_figures import read_stage_figures


def figures(
    low: float, last: tuple[float, float] = (-0.02, 0.03), fall: tuple[float, float] = (-0.1, -0.01)
) -> EnergyFigures:
    share, zero = Interval(0.7, 0.6, 0.8), Interval(0.0, -0.1, 0.1)
    one = PairSetFigures(
        name="all", num_pairs=10, num_outcomes=20, num_clusters=5, base=share, refined=share,
        difference=Interval(0.0, low, 0.01), p_value=0.5, base_loss=share, refined_loss=share, loss_difference=zero,
        base_calibration_error=0.05, refined_calibration_error=0.1, share_kept=0.7, share_restarted=0.05,
        mean_steps=3.0,
    )  # fmt: skip
    failing = one.model_copy(update={"name": "coffee", "difference": Interval(-0.05, -0.09, 0.0)})
    row = BestOfNRow(
        n=8, kl_nats=1.2, base_gold=share, refined_gold=share, difference=Interval(0.0, *last), base_proxy=1.0,
        refined_proxy=-1.0,
    )  # fmt: skip
    return EnergyFigures(
        described="One way", num_seeds=5, sets=(failing, one), best_of_n=(row,), base_fall=Interval(-0.05, *fall),
        refined_fall=Interval(0.0, -0.01, 0.02),
    )  # fmt: skip


def test_the_page_says_whether_accuracy_is_kept_and_which_set_fails():
    text = figures(-0.015).to_markdown()
    assert "The lower bound over all pairs, −1.5 points, is not below −2; by itself, that of coffee is." in text
    assert "−3.0 points, is below −2" in figures(-0.03).to_markdown()


@pytest.mark.parametrize(
    ("last", "said"),
    [
        ((0.01, 0.05), "EBRM delays over-optimisation here."),
        ((-0.05, -0.01), "EBRM does not delay over-optimisation here: it selects worse."),
        ((-0.01, 0.05), "Over-optimisation is not shown to be delayed: the interval at the largest n includes 0."),
    ],
)
def test_the_page_says_whether_over_optimisation_is_delayed(last: tuple[float, float], said: str):
    text = figures(0.0, last).to_markdown()
    assert said in text
    assert "base −5.0 [−10.0, −1.0] points (over-optimised)" in text
    assert "EBRM +0.0 [−1.0, +2.0] points (no fall shown)" in text


def test_figures_of_a_run_are_published_and_read_back(tmp_path):
    write_json(tmp_path / "reward" / "results.json", figures(0.0).model_dump(mode="json"))
    write_json(tmp_path / "reward" / "manifest.json", {"stage": "reward", "elapsed_s": 60.0})
    found = published_stage(tmp_path, "reward", command="distill run recipes/ebrm.yaml")
    write_json(tmp_path / "ebrm.json", found.model_dump(mode="json"))
    assert read_published(tmp_path / "ebrm.json") == found
    assert "`distill run recipes/ebrm.yaml`: 1.0 minutes" in found.to_markdown()


def test_the_command_line_reads_the_tables(tmp_path):
    write_json(tmp_path / "results.json", figures(0.0).model_dump(mode="json"))
    found = read_stage_figures(tmp_path / "results.json")
    assert list(found.tables()) == ["held-out pairs", "calibration", "best of n"]
    assert found.tables()["held-out pairs"][1]["base"] == "70.0 % [60.0, 80.0]"
