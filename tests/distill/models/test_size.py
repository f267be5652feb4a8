from distill.models import count_parameters, new_model


def test_parameters_counted_by_hand(tokenizer, sizes):
    """Width 32, 2 layers, 4 heads of 8, 2 key-value heads, 48 channels, 320 tokens, tied embeddings.

    A layer: Q and O 2 * 32 * 32, K and V 2 * 32 * 16, MLP 3 * 32 * 48, two norms of 32: 7 744. Embedding 320 * 32,
    final norm 32.
    """
    assert len(tokenizer) == 320
    assert count_parameters(new_model(sizes, tokenizer, seed=0)) == 2 * 7744 + 320 * 32 + 32
