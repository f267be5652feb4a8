import dataclasses

import pytest

from distill.data import read_conversations
from distill.errors import RecipeError
from distill.pipeline.prompts import prompts_of_pairs, prompts_of_sft
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
