"""f-DPG's table and curves."""

from pathlib import Path

from distill.files import write_json
from eval.f_dpg_figures import curve_of, read_f_dpg
from tests.eval.f_dpg_rows import at, figures_of


def test_the_table_sets_alignment_against_diversity_with_intervals():
    figures = figures_of("jensen_shannon")
    text = figures.to_markdown()
    lines = [line for line in text.splitlines() if line.startswith("|")]
    assert lines[0].startswith("| model | lacks ! | KL(p‖model) | TV to p | JS to p | KL(model‖start) | entropy |")
    assert len({line.count("|") for line in lines}) == 1
    assert lines[2].startswith("| start | 0.375 [0.250, 0.500] | 0.500 [0.375, 0.625] |")
    assert lines[3].startswith("| jensen shannon | 0.750 ")
    assert lines[3].endswith("| 0.875 [0.750, 1.000] | 0.500 |")
    assert "8 answers to each of 20 held-out prompts. Wanted: lacks ! of mean 0.75 (λ 2.500;" in text


def test_what_is_not_asked_for_has_no_column():
    assert not {"allowed", "reward"} & set(figures_of("alpha").table()[0])
    both = dict.fromkeys(("share_allowed", "reward"), at(0.5))
    with_both = figures_of("alpha").rows[0].model_copy(update=both)
    assert {"allowed", "reward"} <= set(figures_of().model_copy(update={"rows": (with_both,)}).table()[0])


def test_figures_read_back_as_the_stage_wrote_them_and_as_they_are_published(tmp_path: Path):
    figures = figures_of("forward_kl", "alpha")
    write_json(tmp_path / "own.json", figures.model_dump(mode="json"))
    write_json(tmp_path / "published.json", {"figures": figures.model_dump(mode="json"), "command": "x"})
    assert read_f_dpg(tmp_path / "own.json") == read_f_dpg(tmp_path / "published.json") == figures


def test_a_curve_keeps_what_is_drawn_to_four_digits():
    metrics = {"kl_target_to_policy": 0.123456, "total_variation": 0.5, "jensen_shannon": 0.1, "kl_to_base": 0.0}
    rows = [{"step": step, "loss": 3.0, "entropy": 10.0, "moment lacks !": 0.25, **metrics} for step in (1.0, 2.0)]
    curve = curve_of("alpha", [*rows, {"step": 2.0, "valid_loss": 1.0}])
    assert curve.steps == (1, 2)
    assert curve.values["kl_target_to_policy"] == (0.1235, 0.1235)
    assert curve.values["moment lacks !"] == (0.25, 0.25)
    assert "loss" not in curve.values
