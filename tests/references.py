"""The objectives once more, as plainly as numpy float64 allows: one number at a time, straight from the definitions.

Slow, unguarded against overflow, and written without a look at `distill`: what the fast versions are held against.
"""

import math
from collections.abc import Sequence

import numpy as np


def log_softmax(logits: Sequence[float]) -> list[float]:
    """log(e^z / sum e^z), with the largest logit taken out."""
    largest = max(logits)
    total = sum(math.exp(z - largest) for z in logits)
    return [z - largest - math.log(total) for z in logits]


def sigmoid(x: float) -> float:
    """1 / (1 + e^-x)."""
    return 1.0 / (1.0 + math.exp(-x)) if x >= 0 else math.exp(x) / (1.0 + math.exp(x))


def dpo(
    policy: tuple[float, float], reference: tuple[float, float], *, beta: float, label_smoothing: float = 0.0
) -> float:
    """-(1 - e) log sg(M) - e log sg(-M) of one pair (chosen, rejected)."""
    margin = beta * ((policy[0] - reference[0]) - (policy[1] - reference[1]))
    return (1.0 - label_smoothing) * softplus(-margin) + label_smoothing * softplus(margin)


def dadpo(
    policy: tuple[float, float],
    reference: tuple[float, float],
    teacher: tuple[float, float],
    *,
    beta_reference: float,
    beta_teacher: float,
) -> float:
    """-log sg(M) of one pair (chosen, rejected)."""
    d_policy, d_reference, d_teacher = (pair[0] - pair[1] for pair in (policy, reference, teacher))
    margin = beta_reference * (d_policy - d_reference) + beta_teacher * (d_policy - d_teacher)
    return softplus(-margin)


def f_dpo_reward(log_ratio: float, name: str, *, alpha: float = 0.5) -> float:
    """f'(u) less f'(1), from the generators' derivatives: log u, -1/u, log 2u/(u + 1), (1 - u^-a)/a."""
    u = math.exp(log_ratio)
    return {
        "reverse_kl": math.log(u),
        "forward_kl": 1.0 - 1.0 / u,
        "jensen_shannon": math.log(2.0 * u / (u + 1.0)),
        "alpha": (1.0 - u**-alpha) / alpha,
    }[name]


def clipped_dadpo(
    policy: tuple[float, float],
    reference: tuple[float, float],
    teacher: tuple[float, float],
    *,
    beta_reference: float,
    beta_teacher: float,
    clip: float,
) -> float:
    """-log sg((b1 + b2) D[log(pi / ref)] - b2 clamp(delta_te, -c, c)) of one pair (chosen, rejected)."""
    d_policy, d_reference, d_teacher = (pair[0] - pair[1] for pair in (policy, reference, teacher))
    delta_te = max(-clip, min(clip, d_teacher - d_reference))
    return softplus(-((beta_reference + beta_teacher) * (d_policy - d_reference) - beta_teacher * delta_te))


def softplus(x: float) -> float:
    """log(1 + e^x)."""
    return max(x, 0.0) + math.log1p(math.exp(-abs(x)))


def divergence(name: str, p: Sequence[float], q: Sequence[float], **parameters: float) -> float:
    """The divergence of two distributions given as probabilities."""
    return float(DEFINITIONS[name](np.asarray(p, dtype=np.float64), np.asarray(q, dtype=np.float64), **parameters))


def top_k_divergence(
    name: str, p: Sequence[float], q: Sequence[float], *, listed: Sequence[int], **parameters: float
) -> float:
    """The divergence of the listed tokens and all others as one."""
    others = [v for v in range(len(p)) if v not in listed]

    def lumped(x: Sequence[float]) -> list[float]:
        return [x[v] for v in listed] + [math.fsum(x[v] for v in others)]

    return divergence(name, lumped(p), lumped(q), **parameters)


def uld(p: Sequence[float], q: Sequence[float]) -> float:
    """Sum of |p - q| of sorted lists, the shorter with zeros."""
    width = max(len(p), len(q))
    one, other = (sorted(x, reverse=True) + [0.0] * (width - len(x)) for x in (p, q))
    return math.fsum(abs(a - b) for a, b in zip(one, other, strict=True))


def kl(p: np.ndarray, q: np.ndarray) -> float:
    """Sum of p log(p / q) over what p allows."""
    return math.fsum(a * (math.log(a) - math.log(b)) for a, b in zip(p, q, strict=True) if a > 0)


def jensen_shannon(p: np.ndarray, q: np.ndarray, *, beta: float = 0.5) -> float:
    """GKD's: beta KL(p || m) + (1 - beta) KL(q || m)."""
    mixture = beta * p + (1 - beta) * q
    return beta * kl(p, mixture) + (1 - beta) * kl(q, mixture)


def alpha_beta(p: np.ndarray, q: np.ndarray, *, alpha: float = 0.5, beta: float = 0.5) -> float:
    """ABKD's, for alpha, beta and their sum not 0."""
    total = alpha + beta
    terms = p**alpha * q**beta - alpha / total * p**total - beta / total * q**total
    return -math.fsum(terms) / (alpha * beta)


DEFINITIONS = {
    "forward_kl": kl,
    "reverse_kl": lambda p, q: kl(q, p),
    "jensen_shannon": jensen_shannon,
    "total_variation": lambda p, q: 0.5 * math.fsum(np.abs(p - q)),
    "chi_squared": lambda p, q: math.fsum((p - q) ** 2 / q),
    "reverse_chi_squared": lambda p, q: math.fsum((p - q) ** 2 / p),
    "skew_kl": lambda p, q, *, alpha=0.1: kl(p, alpha * p + (1 - alpha) * q),
    "skew_reverse_kl": lambda p, q, *, alpha=0.1: kl(q, (1 - alpha) * p + alpha * q),
    "alpha_beta": alpha_beta,
}
