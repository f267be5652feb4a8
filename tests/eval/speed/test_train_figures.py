import pytest

from eval.speed.figures import Spread
from eval.speed.processes import Block, Measured
from eval.speed.train_figures import JobRow, RerunRow, TrainSpeed, spread_of_rates, step_row

ONE = Spread(median=1.0, low=1.0, high=1.0)


def measured(elapsed_s: list[float], *, step_bytes: int) -> Measured:
    blocks = [Block((0.5,), seconds, 2 * seconds, step_bytes, 3 * step_bytes) for seconds in elapsed_s]
    return Measured(10, Block((0.7, 0.6), 9.0, 9.0, 1, 1), blocks)


def test_a_step_row_compares_round_by_round():
    """Ours 1 s and 2 s, the peer 4 s and 4 s, 100 and 300 tokens: ratios 4 and 2, rates 100 and 150.

    10 and 40 operations at products of 20 a second: 10 / 20 and 20 / 20 of the peak.
    """
    row = step_row(
        "ours",
        measured([1.0, 2.0], step_bytes=10),
        group="g",
        peer=measured([4.0, 4.0], step_bytes=40),
        tokens=[100, 300],
        flops=[10, 40],
        matmul_flops_per_s=[20.0, 20.0],
    )
    assert row.speed_ratio == Spread(median=3.0, low=2.0, high=4.0)
    assert row.tokens_per_s == Spread(median=125.0, low=100.0, high=150.0)
    assert row.tokens_per_cpu_s.median == 62.5
    assert (row.memory_ratio, row.step_bytes, row.raw_bytes) == (0.25, 10, 30)
    assert row.peak_share == Spread(median=0.75, low=0.5, high=1.0)
    assert row.first_losses == (0.7, 0.6)
    assert row.origin == "ours"


def test_the_peer_is_compared_with_nothing():
    row = step_row(
        "TRL",
        measured([1.0], step_bytes=1),
        group="g",
        peer=None,
        tokens=[1],
        flops=[1],
        matmul_flops_per_s=[1.0],
    )
    assert (row.origin, row.speed_ratio, row.memory_ratio) == ("peer", None, None)


def test_rates_differ_by_round():
    assert spread_of_rates([10, 30], [1.0, 2.0]) == Spread(median=12.5, low=10.0, high=15.0)
    with pytest.raises(ValueError, match="shorter"):
        spread_of_rates([1, 2], [1.0])


def test_a_table_holds_what_was_measured_and_nothing_else():
    row = step_row(
        "TRL",
        measured([2.0], step_bytes=2**20),
        group="g",
        peer=None,
        tokens=[3000],
        flops=[1],
        matmul_flops_per_s=[1.0],
    )
    job = JobRow(
        name="kd", origin="ours", elapsed_s=ONE, cpu_s=ONE, speed_ratio=None, teacher_tokens=1234, raw_bytes=2**20
    )
    rerun = RerunRow(
        name="kd", origin="ours", first_frozen_tokens=99, second_frozen_tokens=0, first_s=1.0, second_s=0.5
    )
    speed = TrainSpeed(
        work="some work",
        steps_a_turn=1,
        largest_loss_difference=2e-6,
        matmul_flops_per_s=Spread(median=2e9, low=1e9, high=3e9),
        steps=(row,),
        notes=("a note",),
    )
    text = speed.to_markdown()
    assert text.startswith("Some work.")
    assert "| TRL | 1,500 [1,500, 1,500] | 750 |" in text
    assert "before any update differed by 2e-06 at most; float32 matrix product: 2 GFLOP/s." in text
    assert text.endswith("a note.\n")
    assert "job" not in text
    whole = TrainSpeed(
        work="w",
        steps_a_turn=1,
        largest_loss_difference=None,
        matmul_flops_per_s=None,
        jobs_described="Whole jobs",
        jobs=(job,),
        reruns=(rerun,),
    ).to_markdown()
    assert "| kd | 1.0 [1.0, 1.0] | 1.0 | – | 1,234 | 1 |" in whole
    assert "| kd | 99 | 0 | 1.0 | 0.5 |" in whole
    assert "Training steps" not in whole


def test_figures_read_back_as_they_were_written():
    speed = TrainSpeed(work="w", steps_a_turn=1, largest_loss_difference=None, matmul_flops_per_s=ONE)
    assert TrainSpeed.model_validate_json(speed.model_dump_json()) == speed
