"""Distributions softened by a temperature, and the factor that keeps their gradients at scale."""

from jaxtyping import Float
from torch import Tensor

from distill.numerics import log_softmax, widened


def softened(log_probs: Float[Tensor, "*positions vocab"], *, temperature: float) -> Float[Tensor, "*positions vocab"]:
    r"""The log-probs of softmax(z / T), from logits z or from log-probs, which are logits too.

    .. math:: \log\mathrm{softmax}(z / T) = \log\mathrm{softmax}(\log\mathrm{softmax}(z) / T)

    At T = 1 log-probs come back as they are: they must be normalised then.

    Source:
        Hinton et al. 2015, arXiv:1503.02531, sec. 2, eq. 1.
    """
    log_probs = widened(log_probs)
    return log_probs if temperature == 1.0 else log_softmax(log_probs / temperature)


def at_scale(values: Float[Tensor, "*positions"], *, temperature: float) -> Float[Tensor, "*positions"]:
    """`values` times T^2: gradients of softened distributions shrink by 1 / T^2.

    Source:
        Hinton et al. 2015, arXiv:1503.02531, sec. 2.
    """
    return values if temperature == 1.0 else values * temperature**2
