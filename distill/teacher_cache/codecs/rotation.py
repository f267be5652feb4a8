"""A fixed rotation that spreads every coordinate of a hidden state over many, so that none stands out."""

import torch
from jaxtyping import Float, Int
from torch import Tensor


def rotated(hidden_states: Float[Tensor, "tokens hidden"]) -> Float[Tensor, "tokens hidden"]:
    r"""Signs, then a Hadamard transform of each block of n coordinates, n the largest power of two that divides hidden.

    .. math:: y_j = \sum_i (-1)^{j \cdot i} \, r_i h_i, \qquad r_i = (-1)^{i \cdot \lfloor i / 2 \rfloor}

    with :math:`i \cdot j` the number of ones that i and j share in base 2, and i, j counted within a block. It is
    sqrt(n) times a rotation, left unscaled so that sums of numbers on a grid stay exact. The signs r (the
    Rudin-Shapiro sequence) keep states of equal coordinates from piling up in one y. Where hidden is odd, n is 1.

    Source:
        Rotation before rounding: Ashkboos et al. 2024, QuaRot, arXiv:2404.00456, sec. 3.
    """
    return _transformed(hidden_states * _signs(hidden_states))


def rotated_back(rotated_states: Float[Tensor, "tokens hidden"]) -> Float[Tensor, "tokens hidden"]:
    """The opposite of `rotated`: the same transform divided by n, then the signs."""
    return _transformed(rotated_states) / block_size(rotated_states.shape[-1]) * _signs(rotated_states)


def block_size(hidden_size: int) -> int:
    """The largest power of two that divides `hidden_size`."""
    return hidden_size & -hidden_size


def _transformed(values: Float[Tensor, "tokens hidden"]) -> Float[Tensor, "tokens hidden"]:
    """The transform of n = first * second numbers is one of the rows and one of the columns of a table of them."""
    size = block_size(values.shape[-1])
    first = 1 << (size.bit_length() - 1) // 2
    second = size // first
    rows = values.reshape(-1, first, second) @ _hadamard(values, second)
    return (rows.mT @ _hadamard(values, first)).mT.reshape(values.shape)


def _hadamard(like: Tensor, size: int) -> Float[Tensor, "size size"]:
    places = torch.arange(size, device=like.device)
    return _sign_of_ones(places.unsqueeze(-1) & places).to(like.dtype)


def _signs(like: Float[Tensor, "tokens hidden"]) -> Float[Tensor, " hidden"]:
    places = torch.arange(like.shape[-1], device=like.device) % block_size(like.shape[-1])
    return _sign_of_ones(places & places >> 1).to(like.dtype)


def _sign_of_ones(values: Int[Tensor, "*shape"]) -> Int[Tensor, "*shape"]:
    """-1 where the number of ones in base 2 is odd, else 1."""
    for shift in (16, 8, 4, 2, 1):
        values = values ^ values >> shift
    return 1 - 2 * (values & 1)
