"""Standard errors of means over tokens, of which those of one chat are not independent."""

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor


def clustered_standard_error(
    values: Float[Tensor, " tokens"], owners: Int[Tensor, " tokens"], *, num_clusters: int
) -> float | None:
    r"""Standard error of the mean of `values`, a ratio of sums over clusters.

    .. math:: \sqrt{\frac{C}{C - 1} \sum_c \Big(\sum_{t \in c} (x_t - \bar x)\Big)^2} \Big/ N

    Of differences between two models on the same tokens it is the paired one.

    Args:
        values: one a token.
        owners: the cluster of each, from 0.
        num_clusters: how many there are; those without tokens count.

    Returns:
        None where there is a single cluster.

    Source:
        Miller 2024, arXiv:2411.00640, section 2.2; the factor C / (C - 1) is the usual correction for few clusters.
    """
    if num_clusters < 2:
        return None
    residuals = torch.zeros(num_clusters, dtype=values.dtype).index_add(0, owners, values - values.mean())
    variance = num_clusters / (num_clusters - 1) * float(residuals.square().sum())
    return math.sqrt(variance) / values.numel()
