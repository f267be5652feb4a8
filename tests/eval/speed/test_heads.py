import json
import math
from dataclasses import replace

import pytest
import torch

from distill.errors import DistillError
from eval.speed import heads
from eval.speed.head_candidates import HeadInputs, HeadShape, resident_peak
from eval.speed.head_figures import HeadRow
from eval.speed.heads import head_rows, over_products, peak_alone, require_same_losses
from eval.speed.processes import alone

SHAPE = HeadShape(
    num_tokens=24, hidden_size=8, teacher_hidden_size=12, vocab_size=40, answer_tokens=3, dtype=torch.float32
)


def test_losses_must_agree_and_products_have_none():
    require_same_losses({"products": None, "a": 0.5, "b": 0.500004}, tolerance=1e-5)
    with pytest.raises(DistillError, match=r"the loss of b is 0\.6000000, that of a 0\.5000000"):
        require_same_losses({"products": None, "a": 0.5, "b": 0.6}, tolerance=1e-5)
    with pytest.raises(DistillError, match="the loss of b is nan"):
        require_same_losses({"a": 0.5, "b": math.nan}, tolerance=1e-5)


def test_time_over_products_is_taken_round_by_round():
    found = over_products([2.0, 9.0], [1.0, 3.0], origin="ours")
    assert found is not None
    assert (found.low, found.high) == (2.0, 3.0)
    assert over_products([1.0], [1.0], origin="products") is None


def rows_of_all() -> list[HeadRow]:
    return head_rows(HeadInputs(SHAPE, torch.device("cpu")), num_repeats=1, cpu_peak=resident_peak)


@pytest.mark.slow
def test_every_head_has_a_row():
    """In one process that has the peers loaded."""
    rows = alone(rows_of_all, list, num_threads=1)
    assert sum(row.origin == "products" for row in rows) == 2
    assert all((row.over_products is None) == (row.origin == "products") for row in rows)
    assert all(row.elapsed_ms.low > 0 for row in rows)


@pytest.mark.slow
def test_memory_is_that_of_the_candidate_above_its_inputs():
    """The products keep a weight gradient of 2,000 by 256 floats at least."""
    shape = replace(SHAPE, hidden_size=256, vocab_size=2_000)
    assert peak_alone(shape, "three products") >= 4 * 2_000 * 256


def test_the_command_writes_its_figures(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(heads, "head_rows", lambda inputs, **named: [])
    heads.main(
        ["--part", "heads", "--tokens", "24", "--answer", "3", "--vocab", "40", "--json", str(tmp_path / "heads.json")]
    )
    assert json.loads(capsys.readouterr().out)["format"] == "head-speed"
    command = json.loads((tmp_path / "heads.json").read_text())["command"]
    assert command.startswith("python -m eval.speed.heads --part heads --tokens 24 --answer 3")
