"""f-DPG's picture."""

import sys
from pathlib import Path

import pytest

from distill.files import write_json
from eval.f_dpg_picture import f_dpg_picture, main
from tests.eval.f_dpg_rows import figures_of

MODELS = ("jensen_shannon", "forward_kl")


def test_the_picture_has_a_panel_of_each_curve_and_one_of_all_models():
    every = [axes for axes in f_dpg_picture(figures_of(*MODELS)).axes if axes.get_visible()]
    assert [axes.get_title(loc="left") for axes in every] == [
        "mean of: lacks !",
        "total variation to the target",
        "KL(target‖student), nats",
        "entropy of whole answers, nats",
        "held-out prompts: diversity against distance",
    ]
    dashed = every[0].lines[-1].get_ydata()
    assert set(dashed) == {0.75}
    assert list(every[0].lines[0].get_xdata()) == [1, 2, 3]


def test_the_command_draws_the_same_file_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    write_json(tmp_path / "results.json", figures_of(*MODELS).model_dump(mode="json"))
    for name in ("a.svg", "b.svg"):
        monkeypatch.setattr(sys, "argv", ["f_dpg_picture", str(tmp_path / "results.json"), str(tmp_path / name)])
        main()
    text = (tmp_path / "a.svg").read_text(encoding="utf-8")
    assert text == (tmp_path / "b.svg").read_text(encoding="utf-8")
    assert "jensen shannon" in text
    assert "start" in text
