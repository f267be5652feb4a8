from pathlib import Path

import pytest

from distill.cli_eval_show import agree, show
from distill.errors import DataError, RecipeError


def test_only_fastchats_numbers_are_compatible():
    with pytest.raises(RecipeError, match="--compat is alpaca"):
        show(compat="alpaca")


def test_agreement_reads_files_of_votes(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    path = tmp_path / "votes.jsonl"
    row = '{"question_id": 1, "model_a": "x", "model_b": "y", "winner": "tie", "judge": "expert_%d", "turn": 1}\n'
    path.write_text(row % 1 + row % 2)
    agree([path])
    assert "human and human" in capsys.readouterr().out
    with pytest.raises(DataError, match="does not exist"):
        agree([tmp_path / "absent"])
