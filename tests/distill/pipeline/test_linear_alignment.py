from pathlib import Path

import pytest

from distill.data import read_pairs
from distill.errors import RecipeError
from distill.pipeline.recipe import load_recipe
from distill.pipeline.runner import run_recipe
from eval.steering_figures import read_steering

STAGE = "linear_alignment={ratios: [0, 2], num_conversations: 2, num_speed_prompts: 2, num_speed_rounds: 1,"
SHORT = f"{STAGE} sampling: {{temperature: 0.0, max_new_tokens: 2}}}}"


def test_the_stage_measures_every_strength(tiny_recipe: Path, tmp_path: Path):
    run = run_recipe(load_recipe(tiny_recipe, [f"output={tmp_path}", SHORT]), only="prepare")
    run_recipe(load_recipe(tiny_recipe, [f"output={tmp_path}", SHORT]), only="linear_alignment")
    figures = read_steering(run.stage("linear_alignment") / "results.json")
    assert [arm.name for arm in figures.arms] == ["no principle", "prompting alone", "ratio 0", "ratio 2"]


def test_the_chosen_answers_of_pairs_are_steered_and_their_prompts_do_not_tell(tiny_recipe: Path, tmp_path: Path):
    """Random weights: what matters is that the section reaches the teacher, and the pairs' prompts stay the data's."""
    found = {}
    for name, overrides in (
        ("plain", []),
        ("steered", ["pairs.linear_alignment={principle: Speak of tea., ratio: 5}"]),
    ):
        output = f"output={tmp_path / name}"
        run = run_recipe(load_recipe(tiny_recipe, [output, *overrides]), until="pairs")
        found[name] = read_pairs(run.stage("pairs") / "pairs.jsonl")
    systems = {name: {pair.prompt[0].content for pair in pairs} for name, pairs in found.items()}
    assert found["plain"]
    assert found["steered"]
    assert not any("Speak of tea." in text for text in systems["steered"])
    assert {pair.chosen for pair in found["steered"]}.isdisjoint(pair.chosen for pair in found["plain"])


@pytest.mark.parametrize("section", ["pairs.linear_alignment={principle: Be kind.}", SHORT])
def test_a_teacher_behind_a_server_cannot_be_steered(tiny_recipe: Path, section: str):
    server = "teacher.endpoint={base_url: 'http://127.0.0.1:9/v1', model: x}"
    overrides = [server, "cache.codec=[scores]", "train.objective={name: dpo}", "evaluate=null", section]
    with pytest.raises(RecipeError, match="compares the logits of every next token with and without a principle"):
        load_recipe(tiny_recipe, overrides)


def test_without_a_teacher_nothing_is_steered(tiny_recipe: Path):
    alone = ["teacher=null", "pairs=null", "cache=null", "train=null", SHORT]
    with pytest.raises(RecipeError, match="linear_alignment needs a teacher"):
        load_recipe(tiny_recipe, alone)


def test_gguf_files_cannot_be_steered_in_evaluate(tiny_recipe: Path):
    steered = ["evaluate.linear_alignment={principle: Be kind.}", "export.formats=[gguf-f16]"]
    with pytest.raises(RecipeError, match=r"evaluate.linear_alignment is set, but export.formats holds gguf-f16"):
        load_recipe(tiny_recipe, steered)
