from eval.speed.figures import Spread
from eval.speed.head_figures import HeadRow, HeadSpeed, LargeStep

TWO = Spread(median=2.0, low=1.0, high=3.0)


def test_tables_by_family_and_of_steps():
    row = HeadRow(
        name="ours", family="pairs", origin="ours", elapsed_ms=TWO, over_products=TWO, size_bytes=2**21, loss=0.5
    )
    step = LargeStep(
        name="large",
        tokens_per_s=TWO,
        step_s=TWO,
        needed_flops_per_s=Spread(median=4e12, low=1e12, high=5e12),
        product_flops_per_s=8e12,
        vendor_flops_per_s=16e12,
        size_bytes=2**30,
    )
    assert (step.peak_share, step.vendor_share) == (0.5, 0.25)
    text = HeadSpeed(shape="a shape", device="CPU", rows=(row,), steps_described="steps", steps=(step,)).to_markdown()
    assert "| ours | 2.0 [1.0, 3.0] | 2.00 [1.00, 3.00] | 2 |" in text
    assert "| large | 2 [1, 3] | 2.000 [1.000, 3.000] | 4.00 | 50 % | 25 % | 1,024 |" in text


def test_a_device_without_a_stated_peak_has_no_share_of_it():
    step = LargeStep(
        name="large",
        tokens_per_s=TWO,
        step_s=TWO,
        needed_flops_per_s=TWO,
        product_flops_per_s=4.0,
        vendor_flops_per_s=None,
        size_bytes=1,
    )
    assert step.vendor_share is None
    assert "| – |" in HeadSpeed(shape="s", device="d", steps=(step,)).to_markdown()
