"""Whole numbers of n bits, packed without gaps: least significant bit first, eight numbers to n bytes."""

import torch
from jaxtyping import Int
from torch import Tensor

LANES = 8  # numbers after which the pattern of bytes repeats
MAX_BITS = 24


def bits_for(num_values: int) -> int:
    """Bits that tell `num_values` numbers from 0 apart, at least one."""
    return max(1, (num_values - 1).bit_length())


def packed_size(count: int, *, bits: int) -> int:
    """Bytes that `count` numbers take."""
    return -(-count * bits // 8)


def pack(values: Int[Tensor, "rows count"], *, bits: int) -> Tensor:
    """Rows of numbers below 2**bits as bytes: uint8 [rows, packed_size]; bits left over are zero.

    Args:
        values: not negative.
        bits: of each number, 1 to 24.
    """
    rows, count = values.shape
    assert 1 <= bits <= MAX_BITS
    groups = -(-count // LANES)
    lanes = torch.nn.functional.pad(values.int(), (0, groups * LANES - count)).view(rows, groups, LANES)
    packed = torch.zeros(rows, groups, bits, dtype=torch.int32, device=values.device)
    for lane in range(LANES):
        byte, shift = divmod(lane * bits, 8)
        shifted = lanes[..., lane] << shift
        for position in range(-(-(shift + bits) // 8)):
            packed[..., byte + position] |= (shifted >> (8 * position)) & 255
    return packed.to(torch.uint8).view(rows, groups * bits)[:, : packed_size(count, bits=bits)]


def unpack(packed: Tensor, *, bits: int, count: int) -> Int[Tensor, "rows count"]:
    """The `count` numbers of each row, int64; the opposite of `pack`."""
    rows, size = packed.shape
    assert 1 <= bits <= MAX_BITS
    assert size == packed_size(count, bits=bits)
    groups = -(-count // LANES)
    columns = torch.nn.functional.pad(packed, (0, groups * bits - size)).view(rows, groups, bits).int()
    values = torch.empty(rows, groups, LANES, dtype=torch.int64, device=packed.device)
    for lane in range(LANES):
        byte, shift = divmod(lane * bits, 8)
        value = columns[..., byte]
        for position in range(1, -(-(shift + bits) // 8)):
            value = value | (columns[..., byte + position] << (8 * position))
        values[..., lane] = (value >> shift) & (2**bits - 1)
    return values.view(rows, groups * LANES)[:, :count]
