import dataclasses
from pathlib import Path

import pytest

from distill.data import Conversation, Message, read_conversations
from distill.errors import RecipeError
from distill.pipeline.prompts import kinds_of, prompts_of_pairs, prompts_of_sft, without_left_out
from distill.pipeline.recipe import load_recipe
from distill.pipeline.run_folder import RunFolder
from distill.pipeline.stage_settings import DistilledSftSettings

SFT = DistilledSftSettings.model_validate(
    {
        "objective": {"name": "sft"},
        "learning_rate": 1e-3,
        "max_steps": 1,
        "global_batch_size": 1,
        "micro_batch_size": 1,
        "num_prompts": 2,
    }
)


def with_sft(run: RunFolder, sft: DistilledSftSettings | None) -> RunFolder:
    recipe = run.recipe.model_copy(update={"sft": sft})
    return dataclasses.replace(run, loaded=run.loaded.model_copy(update={"recipe": recipe}))


def test_sft_and_pairs_share_no_prompt_and_lose_none(finished: RunFolder):
    run = with_sft(finished, SFT)
    of_sft, of_pairs = ([row.id for row in rows] for rows in (prompts_of_sft(run), prompts_of_pairs(run)))
    assert len(of_sft) == 2
    assert [*of_sft, *of_pairs] == [row.id for row in read_conversations(run.conversations("prompts"))]


@pytest.mark.parametrize("sft", [None, SFT.model_copy(update={"num_prompts": None})])
def test_without_a_number_both_take_all_prompts(finished: RunFolder, sft):
    run = with_sft(finished, sft)
    everything = read_conversations(run.conversations("prompts"))
    assert prompts_of_sft(run) == prompts_of_pairs(run) == everything


def test_no_prompt_left_for_the_pairs_is_refused(finished: RunFolder):
    run = with_sft(finished, SFT.model_copy(update={"num_prompts": 3}))
    for prompts_of in (prompts_of_sft, prompts_of_pairs):
        with pytest.raises(RecipeError, match=r"sft\.num_prompts is 3, but the data holds 3 prompts"):
            prompts_of(run)


def test_a_number_of_prompts_without_a_teacher_to_answer_them_is_refused():
    values = {**SFT.model_dump(), "answers": "data"}
    with pytest.raises(ValueError, match="no teacher answers prompts"):
        DistilledSftSettings.model_validate(values)


def test_dialogues_with_a_turn_that_is_left_out_are_not_learned(tiny_recipe: Path, tmp_path: Path):
    """By category or by intent; a name that no dialogue has, or that all have, may be a mistake."""
    rows = [Conversation(name, (Message("user", name),), {"turns": turns}) for name, turns in TURNS.items()]
    rows.append(Conversation("plain", (Message("user", "plain"),)))

    def kept(*names: str) -> list[str]:
        section = "sft={objective: {name: sft}, learning_rate: 1.0, max_steps: 1, global_batch_size: 1, leave_out: "
        loaded = load_recipe(tiny_recipe, [f"{section}[{', '.join(names)}]}}"])
        return [row.id for row in without_left_out(RunFolder(loaded, tmp_path), rows)]

    assert kept("refusals") == ["tea", "plain"]
    assert kept("rude") == ["tea", "smoke", "plain"]
    assert kept() == ["rude", "tea", "smoke", "plain"]
    with pytest.raises(RecipeError, match="is in no dialogue"):
        kept("refusal")
    rows.pop()
    with pytest.raises(RecipeError, match="leaves no dialogue"):
        kept("refusals", "orders")


def test_what_sft_leaves_out_is_not_asked_for_pairs_either(finished: RunFolder):
    prompts = read_conversations(finished.conversations("prompts"))
    kinds = sorted({kind for row in prompts for kind in kinds_of(row)})
    name = next(kind for kind in kinds if 0 < sum(kind in kinds_of(row) for row in prompts) < len(prompts))
    run = with_sft(finished, SFT.model_copy(update={"num_prompts": None, "leave_out": (name,)}))
    assert prompts_of_pairs(run) == [row for row in prompts if name not in kinds_of(row)]


TURNS = {
    "rude": [{"category": "orders", "intent": "order"}, {"category": "refusals", "intent": "rude"}],
    "tea": [{"category": "orders", "intent": "order"}],
    "smoke": [{"category": "refusals", "intent": "smoking"}],
}
