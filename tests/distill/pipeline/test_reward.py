"""Stage `reward` on random weights, and what pairs take from it."""

from pathlib import Path

import pytest

from distill.data import read_pairs
from distill.errors import RecipeError
from distill.files import read_json
from distill.pipeline.recipe import load_recipe
from distill.pipeline.runner import run_recipe
from distill.pipeline.stages import inputs_of
from distill.reward import load_energy_model
from distill.settings import validated
from eval.energy_figures import EnergyFigures

STAGE = (
    "reward={pairs: {cafe: {source: embedded, num_pairs: 24}}, num_seeds: 2, num_folds: 2, base: {l2: 0.1},"
    " energy: {head: {reward_widths: [4], joint_widths: [8]}, spread: 1, num_negatives: 4, num_epochs: 1,"
    " drops_conflicts: false}, refine: {max_steps: 3},"
    " best_of_n: {num_prompts: 2, num_answers: 3, sampling: {max_new_tokens: 2}}}"
)


@pytest.fixture(scope="module")
def rewarded(tiny_recipe: Path, tmp_path_factory: pytest.TempPathFactory):
    overrides = [f"output={tmp_path_factory.mktemp('rewarded')}", STAGE, "pairs.reward={num_answers: 2, margin: 0}"]
    return run_recipe(load_recipe(tiny_recipe, overrides), until="pairs")


def test_the_stage_measures_and_saves_an_ebrm(rewarded):
    folder = rewarded.stage("reward")
    figures = validated(EnergyFigures, read_json(folder / "results.json"), source="results")
    assert [one.name for one in figures.sets] == ["cafe"]
    assert [row.n for row in figures.best_of_n] == [1, 2, 3]
    assert (folder / "results.md").read_text() == figures.to_markdown()
    assert load_energy_model(folder / "model", device="cpu").calibration is not None


def test_pairs_are_filtered_by_the_stages_model(rewarded):
    report = read_json(rewarded.stage("pairs") / "report.json")
    kept = read_pairs(rewarded.stage("pairs") / "pairs.jsonl")
    assert report["num_asked"] == 3
    assert len(kept) == report["num_pairs"]
    assert {"num_reward_dropped", "num_reward_unread_dropped"} <= report.keys()


def test_other_pairs_in_a_file_start_the_stage_over(tiny_recipe: Path, tmp_path: Path):
    """The path stays, the content changes."""
    path, found = tmp_path / "pairs.jsonl", []
    for text in ("one", "two"):
        path.write_text(text)
        overrides = [STAGE, f"reward.pairs.cafe={{source: files, path: {path}}}", "reward.best_of_n=null"]
        run = run_recipe(load_recipe(tiny_recipe, [f"output={tmp_path / 'run'}", *overrides]), only="prepare")
        found.append(inputs_of(run, "reward"))
    assert {name for name in found[0] if found[0][name] != found[1][name]} == {"pair files"}


def test_pairs_cannot_ask_a_model_that_nobody_makes(tiny_recipe: Path):
    with pytest.raises(RecipeError, match="pairs.reward names no model"):
        load_recipe(tiny_recipe, ["pairs.reward={num_answers: 2}"])


def test_best_of_n_needs_test_conversations(tiny_recipe: Path):
    with pytest.raises(RecipeError, match=r"data.num_test is 0, but reward.best_of_n needs test conversations"):
        load_recipe(tiny_recipe, [STAGE, "data.num_test=0", "evaluate=null"])
