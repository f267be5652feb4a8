r"""EBRM's training objective: noise-contrastive estimation of a density over rewards, with noisy labels (NCE+).

An energy head gives f(e, y) for an answer's state e and a candidate reward y; exp f, normalised over y, is the density
of the answer's reward. Candidate 0 is the base reward with a little noise, the others are drawn wide around it.

Source:
    Lochab & Zhang 2025, Energy-Based Reward Models for Robust Language Model Alignment, arXiv:2504.13134; NCE+:
    Gustafsson et al. 2020, How to Train Your Energy-Based Model for Regression, arXiv:2005.01698, sec. 3.3.
"""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor


def nce_plus_loss(
    energies: Float[Tensor, "batch sample"],
    noise_log_densities: Float[Tensor, "batch sample"],
    *,
    energy_penalty: float = 0.05,
) -> Float[Tensor, " batch"]:
    r"""Cross-entropy of telling the label from the noise, plus a penalty that holds the energies' free constant.

    .. math:: s_m = f(e, y_m) - \log p_N(y_m \mid r), \qquad
        L = \log \sum_{m=0}^{M} e^{s_m} - s_0 + \frac{\lambda}{M + 1} \sum_{m=0}^{M} f(e, y_m)^2

    Args:
        energies: f of every candidate; candidate 0 is the label.
        noise_log_densities: log p_N of the same candidates, in nats; carries no gradient.
        energy_penalty: lambda; 0 leaves the constant free.

    Returns:
        One value an answer, in nats.

    Source:
        See the module. Differs: the released code takes log(exp(s_0)), which overflows; s_0 stands here as it is.
    """
    scores = energies - noise_log_densities.detach()
    contrast = torch.logsumexp(scores, dim=-1) - scores[:, 0]
    return contrast + energy_penalty * energies.square().mean(-1)


def noise_log_density(
    candidates: Float[Tensor, "batch sample"], centres: Float[Tensor, " batch"], *, sigmas: Sequence[float]
) -> Float[Tensor, "batch sample"]:
    r"""Log-density of the noise that candidates are drawn from, in nats.

    .. math:: p_N(y \mid r) = \frac1K \sum_k \mathcal N(y; r, \sigma_k^2)

    Args:
        candidates: where the density is asked for.
        centres: the base rewards.
        sigmas: one positive width a component.
    """
    widths = candidates.new_tensor(sigmas)
    steps = (candidates - centres.unsqueeze(-1)).unsqueeze(-1) / widths
    by_component = -0.5 * steps.square() - widths.log() - 0.5 * math.log(2 * math.pi)
    return torch.logsumexp(by_component, dim=-1) - math.log(len(sigmas))


def draw_candidates(
    rewards: Float[Tensor, " batch"],
    *,
    num_negatives: int,
    sigmas: Sequence[float],
    label_noise: float,
    generator: torch.Generator,
) -> Float[Tensor, "batch sample"]:
    r"""The noisy label of each answer, then its negatives.

    .. math:: y_0 = r + \nu, \quad \nu \sim \frac1K \sum_k \mathcal N(0, (\beta \sigma_k)^2), \qquad
        y_1, \dots, y_M \sim p_N(\cdot \mid r)

    Args:
        rewards: r, of the base model.
        num_negatives: M.
        sigmas: widths of the noise's components, each as likely as the other.
        label_noise: beta, the label's width as a share of the noise's; 0 leaves the label as it is.
        generator: of the draws, on the rewards' device.
    """
    shape = (len(rewards), 1 + num_negatives)
    component = torch.randint(len(sigmas), shape, generator=generator, device=rewards.device)
    widths = rewards.new_tensor(sigmas)[component]
    widths[:, 0] *= label_noise
    normal = torch.randn(shape, generator=generator, device=rewards.device, dtype=rewards.dtype)
    return rewards.unsqueeze(-1) + widths * normal
