import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from distill.teacher_cache.codecs.bits import bits_for, pack, packed_size, unpack


@pytest.mark.parametrize(
    ("num_values", "bits"), [(1, 1), (2, 1), (3, 2), (256, 8), (257, 9), (32_000, 15), (151_936, 18), (2**18, 18)]
)
def test_bits_are_the_fewest_that_tell_all_numbers_apart(num_values, bits):
    assert bits_for(num_values) == bits


def test_known_bytes():
    """1, 2, 3 in 3 bits each, lowest first: 001, 010 << 3, 011 << 6 = 1 + 16 + 192 = 209 = 0xd1, nothing left over."""
    assert pack(torch.tensor([[1, 2, 3]]), bits=3).tolist() == [[0xD1, 0x00]]


def test_sixty_four_ids_of_qwens_vocabulary_take_144_bytes():
    assert packed_size(64, bits=18) == 144


@given(seed=st.integers(0, 10_000), bits=st.integers(1, 24), count=st.integers(1, 40), rows=st.integers(0, 4))
def test_unpacking_undoes_packing(seed, bits, count, rows):
    values = torch.randint(0, 2**bits, (rows, count), generator=torch.Generator().manual_seed(seed))
    packed = pack(values, bits=bits)
    assert packed.shape == (rows, -(-count * bits // 8))
    assert torch.equal(unpack(packed, bits=bits, count=count), values)


@pytest.mark.parametrize("bits", range(1, 25))
def test_the_largest_numbers_touch_no_neighbour(bits):
    values = torch.tensor([[0, 2**bits - 1] * 8])
    assert torch.equal(unpack(pack(values, bits=bits), bits=bits, count=16), values)
