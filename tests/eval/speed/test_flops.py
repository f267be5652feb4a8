import torch

from distill.data import TokenizedPair, TokenizedSequence
from eval.speed.flops import MatrixProduct, needed_flops
from eval.speed.teachers import TeacherShape

SHAPE = TeacherShape(vocab_size=5, hidden_size=2, num_layers=3, num_heads=1, intermediate_size=4)


def pair(prompt: int, chosen: int, rejected: int) -> TokenizedPair:
    tokens = tuple(range(prompt))
    return TokenizedPair("p", *(TokenizedSequence(tokens, tuple(range(length))) for length in (chosen, rejected)))


def test_needed_operations_known_answer():
    """Prompt 2, answers 2 and 1. A layer's matrices: 4 * 2^2 + 3 * 2 * 4 = 40 weights, for 2 + 1 + 0 tokens read: 120.

    Keys: the prompt's 1 + 2, the answer's one token 2 + 1: 6, each 2 * 2 products: 24. Three layers: 3 * 144 = 432.
    Logits: 3 tokens * 2 * 5 = 30. 462 multiplications and additions, thrice: 3 * 2 * 462 = 2772.
    """
    assert needed_flops(SHAPE, [pair(2, 2, 1)]) == 2772


def test_needed_operations_add_up_over_pairs():
    both = [pair(2, 3, 4), pair(5, 1, 2)]
    assert needed_flops(SHAPE, both) == sum(needed_flops(SHAPE, [one]) for one in both)


def test_fewer_key_and_value_heads_need_smaller_projections():
    """Half the heads save half of two of four projections: 2 * 2^2 / 2 = 4 weights, 3 layers, 3 tokens, 6 each: 216."""
    one = [pair(2, 2, 1)]
    assert needed_flops(SHAPE, one) - needed_flops(SHAPE, one, kv_share=0.5) == 216


def test_a_product_is_a_product():
    product = MatrixProduct(3)
    product.run()
    torch.testing.assert_close(product._out, product._left @ product._left)
    assert MatrixProduct.flops_of(3) == 54
