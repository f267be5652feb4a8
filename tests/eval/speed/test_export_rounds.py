from distill.embedded import teacher_folder
from distill.export.runtime_cost import NUM_PROMPT_TOKENS
from eval.speed.export_rounds import prompt_ids


def test_there_are_enough_prompt_tokens_for_a_measurement():
    ids = prompt_ids(teacher_folder())
    assert len(ids) >= NUM_PROMPT_TOKENS
    assert all(0 <= token < 2048 for token in ids)
