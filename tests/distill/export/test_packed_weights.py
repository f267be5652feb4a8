import torch

from distill.export.packed_weights import nibbles, read_packed


def parts(**tensors):
    return {name: lambda tensor=tensor: tensor for name, tensor in tensors.items()}


def words(*values: int) -> torch.Tensor:
    """32-bit words as signed integers hold them."""
    return torch.tensor([[value - (1 << 32) if value >= 1 << 31 else value for value in values]], dtype=torch.int32)


def test_a_word_holds_eight_numbers_lowest_first():
    assert nibbles(words(0xFEDCBA98, 0x76543210), axis=1).tolist() == [[*range(8, 16), *range(8)]]
    assert nibbles(words(0x76543210, 0xFEDCBA98), axis=0).tolist() == [[n, n + 8] for n in range(8)]


def test_torchao_subtracts_the_zero_point_and_scales_each_row():
    """(4 - 1) * 0.5 = 1.5 and (-1 - 1) * 0.5 = -1; second row (2 - 0) * 2 = 4 and -6."""
    packed = read_packed(
        parts(
            _weight_qdata=torch.tensor([[4, -1], [2, -3]], dtype=torch.int8),
            _weight_scale=torch.tensor([[0.5], [2.0]]),
            _weight_zero_point=torch.tensor([[1], [0]], dtype=torch.int8),
        ),
        {"quant_method": "torchao"},
    )
    assert packed.type == "I8"
    assert packed.numbers().tolist() == [[1.5, -1.0], [4.0, -6.0]]


def test_auto_round_reads_autogptqs_transposed_words():
    """Eight outputs of eight inputs, levels 0 to 7; a stored zero point of 7 stands for 8; scale 0.5: (n - 8) / 2."""
    eight = parts(
        qweight=words(*[0x76543210] * 8), qzeros=words(0x77777777), scales=torch.full((1, 8), 0.5, dtype=torch.float16)
    )
    packed = read_packed(eight, {"bits": 4, "packing_format": "auto_round:auto_gptq"})
    assert packed.type == "INT4"
    assert packed.numbers().tolist() == [[(n - 8) / 2 for n in range(8)]] * 8


def test_compressed_tensors_numbers_lie_eight_below_what_is_stored():
    """Levels 8 and 15 of one row in two groups of four with scales 1 and 10: 0 0 0 0 and 70 70 70 70."""
    packed = read_packed(
        parts(
            weight_packed=words(0xFFFF8888),
            weight_scale=torch.tensor([[1.0, 10.0]]),
            weight_shape=torch.tensor([1, 8]),
        ),
        {"quant_method": "compressed-tensors"},
    )
    assert packed.type == "INT4"
    assert packed.numbers().tolist() == [[0.0] * 4 + [70.0] * 4]


def test_eight_bit_floats_and_integers_are_scaled_by_row():
    scale = torch.tensor([[2.0], [0.5]])
    for dtype, kind in ((torch.float8_e4m3fn, "F8_E4M3"), (torch.int8, "I8")):
        packed = read_packed(parts(weight=torch.tensor([[1.0, -3.0], [4.0, 8.0]]).to(dtype), weight_scale=scale), {})
        assert packed.type == kind
        assert packed.numbers().tolist() == [[2.0, -6.0], [2.0, 4.0]]


def test_formats_that_are_not_known_stay_unread():
    assert read_packed(parts(qweight=words(0), qzeros=words(0), scales=torch.ones(1, 1)), {"bits": 3}) is None
    assert read_packed(parts(weight=torch.zeros(1, 1), SCB=torch.ones(1)), {}) is None
    padded = parts(weight_packed=words(0), weight_scale=torch.ones(1, 1), weight_shape=torch.tensor([1, 7]))
    assert read_packed(padded, {}) is None
