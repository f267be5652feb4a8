from pathlib import Path

from distill.data import read_conversations
from distill.pipeline.prepare import run_prepare
from distill.pipeline.recipe import load_recipe
from distill.pipeline.run_folder import RunFolder


def test_each_role_gets_its_file_and_its_count(tiny_recipe: Path, tmp_path: Path):
    run = RunFolder(load_recipe(tiny_recipe), tmp_path)
    counts = run_prepare(run)
    assert counts == {"num_teacher": 0, "num_prompts": 3, "num_labelled": 0, "num_valid": 2, "num_test": 2}
    assert {f"num_{role}": len(read_conversations(run.conversations(role))) for role in ("prompts", "valid")} == {
        "num_prompts": 3,
        "num_valid": 2,
    }


def test_prompts_hold_no_answers(finished: RunFolder):
    roles = {message.role for row in read_conversations(finished.conversations("prompts")) for message in row.messages}
    assert roles <= {"system", "user"}


def test_the_same_seed_prepares_the_same_bytes(finished: RunFolder, tiny_recipe: Path, tmp_path: Path):
    again = RunFolder(load_recipe(tiny_recipe), tmp_path)
    run_prepare(again)
    for role in ("prompts", "valid", "test"):
        assert again.conversations(role).read_bytes() == finished.conversations(role).read_bytes()
