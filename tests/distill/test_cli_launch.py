import pytest

from distill.cli_launch import parts_of, wants_ranks
from distill.errors import RecipeError

STAGES = ["prepare", "sft", "pairs", "cache", "train", "export", "evaluate", "report"]


def test_a_run_is_cut_before_and_after_each_stage_that_trains():
    expected = [["prepare"], ["sft"], ["pairs", "cache"], ["train"], ["export", "evaluate", "report"]]
    assert parts_of(STAGES) == expected
    assert parts_of(["prepare", "sft"]) == [["prepare"], ["sft"]]
    assert parts_of(["sft", "train"]) == [["sft"], ["train"]]


def test_one_process_is_no_launch(monkeypatch: pytest.MonkeyPatch):
    for name in ("RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    assert not wants_ranks(None)
    assert not wants_ranks(1)


def test_ranks_of_a_launcher_start_none(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(RecipeError, match="a launcher started this process already"):
        wants_ranks(2)
    assert not wants_ranks(None)
