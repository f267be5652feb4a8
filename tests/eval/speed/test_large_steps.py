import pytest
import torch

from eval.speed import large_steps
from eval.speed.flops import needed_flops
from eval.speed.large_steps import MODELS, large_step, product_flops_per_s


def test_a_products_speed_is_positive():
    assert product_flops_per_s(torch.device("cpu"), dtype=torch.float32, num_products=1) > 0


def test_the_shape_of_the_larger_student_has_its_layers_weights():
    """Qwen2.5-1.5B has 1.31 G weights without its embedding: one token read, no answers' logits, thrice two each."""
    large = MODELS["Qwen2.5-1.5B"]
    flops = needed_flops(large.work.student, large.work.pairs()[:1], kv_share=large.kv_share)
    tokens = 512 + 2 * 512
    body = 6 * 1.31e9 * tokens
    head = 6 * 1536 * 151_936 * 1024
    assert flops == pytest.approx(body + head, rel=0.08)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_tiny_student_takes_its_steps(monkeypatch):
    monkeypatch.setitem(large_steps.PRODUCT_SIZES, "cpu", 256)
    found = large_step("tiny", torch.device("cpu"), num_steps=1, vendor_flops_per_s=1e12)
    assert found.tokens_per_s.median > 0
    assert 0 < found.peak_share < 1
    assert found.vendor_share is not None
